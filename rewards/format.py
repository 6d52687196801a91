"""Reward for the required form of a response."""

from __future__ import annotations

import numpy as np

from vqathinker import answers
from vqathinker.samples import SCORE
from vqathinker.types import FloatArray, RolloutBatch


class FormatReward:
    """1 if the response has the required form, else 0 (VQAThinker, arXiv 2508.06051, Eq. 4).

    The answer is a number. Of other tasks, which it is for where a recipe says so, it may be any text.

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
        rewards = self._of_scores(batch)
        for video, task in enumerate(batch.task):
            if task != SCORE:
                rewards[video] = [answers.is_formed(text, think=self.think) for text in batch.texts[video]]
        return rewards

    def _of_scores(self, batch: RolloutBatch) -> FloatArray:
        """As a call, where answers are numbers."""
        scored = ~np.isnan(batch.scores)
        if self.think:
            has_block = [[answers.THINK in text for text in row] for row in batch.texts]
            return np.asarray(scored & np.reshape(has_block, scored.shape), dtype=np.float64)
        rewards = scored.astype(np.float64)
        for video, response in np.argwhere(~scored):
            rewards[video, response] = answers.parse(batch.texts[video][response], think=False) is not None
        return rewards
