"""Frames that slip by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Jitter:
    """t + δ_t with independent uniform δ_t ∈ {−r, …, r}, clamped; frames may repeat or vanish."""

    def __init__(self, reach: int = 1) -> None:
        """Set r.

        Raises:
            ValueError: if r < 1.
        """
        if reach < 1:
            raise ValueError(f"reach must be at least 1, got {reach}")
        self.reach = reach

    def __call__(self, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return (T,) frame indices."""
        offsets = rng.integers(-self.reach, self.reach, size=num_frames, endpoint=True)
        return np.clip(np.arange(num_frames) + offsets, 0, num_frames - 1).astype(np.int64)
