"""Frames in random order inside short windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class LocalShuffle:
    """A random permutation inside each of ⌊T/w⌋ windows of w frames; the tail stays, T < w is one window."""

    def __init__(self, window: int = 4) -> None:
        """Set w.

        Raises:
            ValueError: if w < 2, which would move nothing.
        """
        if window < 2:
            raise ValueError(f"window must be at least 2, got {window}")
        self.window = window

    def __call__(self, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return (T,) frame indices."""
        window = min(self.window, num_frames)
        indices = np.arange(num_frames, dtype=np.int64)
        shuffled = indices[: num_frames - num_frames % window].reshape(-1, window)  # a view
        rng.permuted(shuffled, axis=1, out=shuffled)
        return indices
