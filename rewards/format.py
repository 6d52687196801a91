"""Reward for the required form of a response."""

from __future__ import annotations

import numpy as np

from vqathinker import answers
from vqathinker.samples import SCORE
from vqathinker.types import FloatArray, RolloutBatch


class FormatReward:
    """1 if the response parses, else 0 (VQAThinker, arXiv 2508.06051, Eq. 4).

    Assumes that `batch.scores` were read from `batch.texts`, so a response with a score has parsed already;
    only what that parse cannot answer, because it was run with the other `think`, is read again.
    """

    tasks = (SCORE,)

    def __init__(self, think: bool = True) -> None:
        """Set the form.

        Args:
            think: False also accepts an answer block alone (the "no reasoning" ablation).
        """
        self.think = think

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) zeros and ones."""
        scored = ~np.isnan(batch.scores)
        if self.think:
            has_block = [[answers.THINK in text for text in row] for row in batch.texts]
            return np.asarray(scored & np.reshape(has_block, scored.shape), dtype=np.float64)
        rewards = scored.astype(np.float64)
        for video, response in np.argwhere(~scored):
            rewards[video, response] = answers.parse(batch.texts[video][response], think=False) is not None
        return rewards
