"""Reward for a score near the mean opinion score."""

from __future__ import annotations

import math

import numpy as np

from vqathinker.samples import SCORE
from vqathinker.types import FloatArray, RolloutBatch


def gaussian(scores: FloatArray, target: FloatArray, *, sigma: float) -> FloatArray:
    """Return exp(−(s−g)²/(2σ²)), and 0 where the score is NaN.

    Args:
        scores: (N, K).
        target: (N,).
        sigma: width σ > 0 in units of the scale.

    >>> gaussian(np.array([[3.0, 3.5, np.nan]]), np.array([3.0]), sigma=0.5).round(4)
    array([[1.    , 0.6065, 0.    ]])
    """
    with np.errstate(
        over="ignore"
    ):  # a score of 1e300 squares to inf, whose exponential is the 0 it deserves
        values = np.exp(-0.5 * np.square((scores - target[:, None]) / sigma))
    return np.where(np.isnan(scores), 0.0, values)


class RegressionReward:
    """α·exp(−(s−g)²/(2σ²)), 0 without a score (VQAThinker, arXiv 2508.06051, Eq. 5).

    Assumes scores and targets on the same 1-5 scale. With α < 1 the right form (worth 1) outweighs the right
    score.
    """

    tasks = (SCORE,)

    def __init__(self, alpha: float = 0.8, sigma: float = 0.5) -> None:
        """Set the height α > 0 and the width σ > 0.

        Raises:
            ValueError: if one of them is not positive and finite.
        """
        if not (0 < alpha < math.inf and 0 < sigma < math.inf):
            raise ValueError(f"alpha and sigma must be positive and finite, got {alpha} and {sigma}")
        self.alpha = alpha
        self.sigma = sigma

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards between 0 and α."""
        return self.alpha * gaussian(batch.scores, batch.target, sigma=self.sigma)
