"""All frames in random order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class GlobalShuffle:
    """A uniformly random permutation of all T frames."""

    def __call__(self, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return (T,) frame indices."""
        return rng.permutation(num_frames).astype(np.int64)
