"""Baseline reward: the regression reward as the released code computes it."""

from __future__ import annotations

import math

import numpy as np

from rewards.regression import gaussian
from vqathinker import answers
from vqathinker.samples import SCORE
from vqathinker.types import FloatArray, RolloutBatch


class CoarseRegressionReward:
    """exp(−(s−g)²/(2σ²)), times `penalty` for a score *written* with fewer than two decimals.

    The released code of VQAThinker (arXiv 2508.06051, Eq. 5 without α). "3.50" has two decimals and is not
    punished; "3.5" and "3" are. Assumes that `batch.scores` were read from `batch.texts`.
    """

    tasks = (SCORE,)

    def __init__(self, sigma: float = 0.5, penalty: float = 0.8) -> None:
        """Set the width σ > 0 and the factor 0 ≤ penalty ≤ 1.

        Raises:
            ValueError: if one is out of range.
        """
        if not (0 < sigma < math.inf and 0 <= penalty <= 1):
            raise ValueError(f"need a finite sigma > 0 and 0 <= penalty <= 1, got {sigma} and {penalty}")
        self.sigma = sigma
        self.penalty = penalty

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards between 0 and 1."""
        rewards = gaussian(batch.scores, batch.target, sigma=self.sigma)
        for video, response in np.argwhere(~np.isnan(batch.scores)):
            answer = answers.parse(batch.texts[video][response], think=False)
            if answer is not None and answer.num_decimals < 2:
                rewards[video, response] *= self.penalty
        return rewards
