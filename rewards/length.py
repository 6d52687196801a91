"""Baseline reward: reasoning of a wanted length."""

from __future__ import annotations

import numpy as np

from vqathinker import answers
from vqathinker.samples import SCORE
from vqathinker.types import FloatArray, RolloutBatch


class LengthReward:
    """`bonus` if the response parses and its reasoning has min_words to max_words words, else 0.

    The length control of VQ-Insight (arXiv 2506.18564), which keeps the reasoning from collapsing or
    rambling. The unit here is words between white space inside the think block, so that it needs no
    tokenizer; the bounds are ours.
    """

    tasks = (SCORE,)

    def __init__(self, min_words: int = 50, max_words: int = 300, bonus: float = 1.0) -> None:
        """Set the range, both ends included, and what it earns.

        Raises:
            ValueError: unless 0 ≤ min_words ≤ max_words and the bonus is finite.
        """
        if not 0 <= min_words <= max_words:
            raise ValueError(f"need 0 <= min_words <= max_words, got {min_words} and {max_words}")
        if not np.isfinite(bonus):
            raise ValueError(f"bonus must be finite, got {bonus}")
        self.min_words = min_words
        self.max_words = max_words
        self.bonus = bonus

    def _reward(self, text: str) -> float:
        answer = answers.parse(text)
        if answer is None:
            return 0.0
        return self.bonus * (self.min_words <= len(answer.reasoning.split()) <= self.max_words)

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards, each 0 or the bonus."""
        rewards = [self._reward(text) for row in batch.texts for text in row]
        return np.array(rewards, dtype=np.float64).reshape(batch.scores.shape)
