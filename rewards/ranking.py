"""Reward for the right order among the videos of the batch."""

from __future__ import annotations

import math

from rewards import pairwise
from vqathinker.types import FloatArray, RolloutBatch


class RankingReward:
    """Mean fidelity √(p·h+ε) + √((1−p)(1−h)+ε) over all j≠i (VQAThinker, arXiv 2508.06051, Eq. 5-6).

    p = Φ((s−μ_j)/√(σ_i²+σ_j²+ε)) is the predicted probability that video i is better than video j
    (Thurstone's case V with unequal spreads), h is 1, 0 or ½ for a target of i above, below or equal to j's
    (ties: VisualQuality-R1, arXiv 2505.14460). Opponents are the other videos of the same data set in the
    global batch that have a valid response; a response without a score and a video without an opponent earn
    0. The maximum is √(1+ε)+√ε. Computed once per batch and ε, however many rewards ask.
    """

    min_videos = 2

    def __init__(self, eps: float = 1e-6) -> None:
        """Set ε.

        Raises:
            ValueError: if ε is not positive and finite.
        """
        if not 0 < eps < math.inf:
            raise ValueError(f"eps must be positive and finite, got {eps}")
        self.eps = eps

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards."""
        return batch.derived(
            ("rewards.ranking", self.eps),
            lambda: pairwise.mean_fidelity(batch.scores, batch.target, batch.dataset, eps=self.eps),
        ).copy()

    def on_twins(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards of the perturbed responses among the *clean* responses of the other videos.

        Raises:
            ValueError: if the batch has no perturbed responses.
        """
        if batch.perturbed is None:
            raise ValueError("the batch has no perturbed responses")
        scores = batch.perturbed.scores
        return batch.derived(
            ("rewards.ranking, twins", self.eps),
            lambda: pairwise.mean_fidelity(
                scores, batch.target, batch.dataset, against=batch.scores, eps=self.eps
            ),
        ).copy()
