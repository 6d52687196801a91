"""Reward for the right order among the videos of the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rewards import pairwise
from vqathinker import answers
from vqathinker.samples import SCORE
from vqathinker.types import FloatArray, RolloutBatch


class RankingReward:
    """Mean fidelity √(p·h+ε) + √((1−p)(1−h)+ε) over all j≠i (VQAThinker, arXiv 2508.06051, Eq. 5-6).

    p = Φ((s−μ_j)/√(σ_i²+σ_j²+ε)) is the predicted probability that video i is better than video j
    (Thurstone's case V with unequal spreads), h is 1, 0 or ½ for a target of i above, below or equal to j's
    (ties: VisualQuality-R1, arXiv 2505.14460). Opponents are the other videos of the same data set in the
    global batch that have a valid response; a response without a score and a video without an opponent earn
    0. The maximum is √(1+ε)+√ε. A score beyond the bounds, one step off the 1-5 scale on either side, counts
    as the nearer bound: one answer of 2444 would otherwise ruin μ and σ of its video, and with them the
    rewards of its other responses and of every opponent. Computed once per batch and parameters, however many
    rewards ask.
    """

    tasks = (SCORE,)
    min_videos = 2

    def __init__(
        self, eps: float = 1e-6, bounds: Sequence[float] | None = answers.OUTER, among: int | None = None
    ) -> None:
        """Set ε, the bounds and the opponents.

        Args:
            eps: ε.
            bounds: lowest and highest score that is told apart; None takes scores as written, as the papers
                do.
            among: number of videos that are ranked together; all of the data set in the batch if omitted. The
                released code ranks pairs.

        Raises:
            ValueError: if ε is not positive and finite, the bounds are not two finite numbers, the lower
                first, or `among` is below 2.
        """
        if not 0 < eps < math.inf:
            raise ValueError(f"eps must be positive and finite, got {eps}")
        if among is not None and not (isinstance(among, int) and among >= self.min_videos):
            raise ValueError(f"among must be a number of at least {self.min_videos} videos, got {among!r}")
        self.eps = eps
        self.among = among
        self.bounds = None if bounds is None else _interval(bounds)

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards."""
        return self._fidelity(batch, batch.scores)

    def on_twins(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards of the perturbed responses among the *clean* responses of the other videos.

        Raises:
            ValueError: if the batch has no perturbed responses.
        """
        if batch.perturbed is None:
            raise ValueError("the batch has no perturbed responses")
        return self._fidelity(batch, batch.perturbed.scores, against=batch.scores)

    def _fidelity(
        self, batch: RolloutBatch, scores: FloatArray, against: FloatArray | None = None
    ) -> FloatArray:
        """The caller's own copy of what is computed once per batch and parameters."""
        judged = "twins" if against is not None else "clean"
        return batch.derived(
            ("rewards.ranking", judged, self.eps, self.bounds, self.among),
            lambda: pairwise.mean_fidelity(
                scores,
                batch.target,
                batch.dataset,
                against=against,
                eps=self.eps,
                bounds=self.bounds,
                among=self.among,
            ),
        ).copy()


def _interval(bounds: Sequence[float]) -> tuple[float, float]:
    """Bounds as a recipe gives them: a list of two numbers."""
    is_list = isinstance(bounds, Sequence) and not isinstance(bounds, str)
    if is_list and len(bounds) == 2 and all(isinstance(bound, int | float) for bound in bounds):
        low = float(bounds[0])
        high = float(bounds[1])
        if -pairwise.LARGEST <= low < high <= pairwise.LARGEST:
            return low, high
    raise ValueError(f"bounds must be two finite numbers, the lower first, or none, got {bounds!r}")
