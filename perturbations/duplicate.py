"""A frame that freezes or flashes up again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Duplicate:
    """n copies of a random frame in a row at a random place, in exchange for n of the other frames.

    n is uniform in 1 … min(max_copies, T−1). The copied frame itself also keeps its place, so it is shown n+1
    times and the result has length T and is never the identity.
    """

    def __init__(self, max_copies: int = 3) -> None:
        """Set the most copies.

        Raises:
            ValueError: if it is less than 1.
        """
        if max_copies < 1:
            raise ValueError(f"max_copies must be at least 1, got {max_copies}")
        self.max_copies = max_copies

    def __call__(self, num_frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return (T,) frame indices.

        Raises:
            ValueError: if T < 2.
        """
        if num_frames < 2:
            raise ValueError(f"duplicating needs at least two frames, got {num_frames}")
        num_copies = int(rng.integers(1, min(self.max_copies, num_frames - 1), endpoint=True))
        frame = int(rng.integers(num_frames))
        others = np.delete(np.arange(num_frames, dtype=np.int64), frame)
        kept = np.sort(np.append(rng.choice(others, num_frames - 1 - num_copies, replace=False), frame))
        place = int(rng.integers(len(kept), endpoint=True))
        return np.insert(kept, place, np.full(num_copies, frame))
