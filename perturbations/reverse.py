"""The video played backwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Reverse:
    """The frames T−1 … 0."""

    def __call__(self, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return (T,) frame indices; nothing is random."""
        return np.arange(num_frames - 1, -1, -1, dtype=np.int64)
