"""Baseline reward: falls linearly with the error."""

from __future__ import annotations

import math

import numpy as np

from vqathinker.samples import SCORE
from vqathinker.types import FloatArray, RolloutBatch


class LinearReward:
    """max(0, 1 − |s−g|/span), 0 without a score (VQ-Insight, arXiv 2506.18564).

    Assumes scores and targets on the same scale, `span` long (4 for 1-5).
    """

    tasks = (SCORE,)

    def __init__(self, span: float = 4.0) -> None:
        """Set the error that earns nothing.

        Raises:
            ValueError: if it is not positive and finite.
        """
        if not 0 < span < math.inf:
            raise ValueError(f"span must be positive and finite, got {span}")
        self.span = span

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards between 0 and 1."""
        error = np.minimum(np.abs(batch.scores - batch.target[:, None]), self.span)
        return np.where(np.isnan(batch.scores), 0.0, 1.0 - error / self.span)
