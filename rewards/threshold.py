"""Baseline reward: near enough or not."""

from __future__ import annotations

import math

import numpy as np

from vqathinker.samples import SCORE
from vqathinker.types import FloatArray, RolloutBatch


class ThresholdReward:
    """1 if |s−g| < width, else 0; 0 without a score (Q-Insight, arXiv 2503.22679).

    Assumes scores and targets on the same 1-5 scale.
    """

    tasks = (SCORE,)

    def __init__(self, width: float = 0.35) -> None:
        """Set the width in units of the scale.

        Raises:
            ValueError: if it is not positive and finite.
        """
        if not 0 < width < math.inf:
            raise ValueError(f"width must be positive and finite, got {width}")
        self.width = width

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) zeros and ones."""
        error = np.abs(batch.scores - batch.target[:, None])
        return np.where(error < self.width, 1.0, 0.0)  # a NaN is not below anything
