"""Frames that are missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class RandomDrop:
    """n random frames removed, the others in order; n is uniform in 1 … min(max_dropped, T−1)."""

    def __init__(self, max_dropped: int = 3) -> None:
        """Set the most frames to remove.

        Raises:
            ValueError: if it is less than 1.
        """
        if max_dropped < 1:
            raise ValueError(f"max_dropped must be at least 1, got {max_dropped}")
        self.max_dropped = max_dropped

    def __call__(self, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return (T−n,) frame indices.

        Raises:
            ValueError: if T < 2.
        """
        if num_frames < 2:
            raise ValueError(f"dropping needs at least two frames, got {num_frames}")
        num_dropped = int(rng.integers(1, min(self.max_dropped, num_frames - 1), endpoint=True))
        dropped = rng.choice(num_frames, num_dropped, replace=False)
        return np.delete(np.arange(num_frames, dtype=np.int64), dropped)
