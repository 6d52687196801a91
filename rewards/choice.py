"""Reward for the right one of several options."""

from __future__ import annotations

import json

import numpy as np

from rewards.check import left_out
from vqathinker.choices import parse_choice
from vqathinker.types import FloatArray, RolloutBatch

OPTIONS = "options"
CORRECT = "correct"


class ChoiceReward:
    """1 if the response chooses the right option, else 0; closed questions of sample files.

    Reads the columns `options` and `correct`. What has no options, an open question, is left out.
    """

    tasks = ("question", "recognition")

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) zeros and ones, masked where there are no options."""
        rewards = np.full(batch.scores.shape, np.nan)
        nothing = [None] * batch.num_videos
        options = batch.columns.get(OPTIONS, nothing)
        correct = batch.columns.get(CORRECT, nothing)
        for row, (offered, right) in enumerate(zip(options, correct, strict=True)):
            if offered is not None and right is not None:
                choices = [parse_choice(text, _as_list(offered)) for text in batch.texts[row]]
                rewards[row] = [choice == int(right) for choice in choices]
        return left_out(rewards)


def _as_list(options: str | list[str]) -> list[str]:
    """Options as a sample file has them, or as the text that a column of them holds."""
    found: list[str] = json.loads(options) if isinstance(options, str) else options
    return found
