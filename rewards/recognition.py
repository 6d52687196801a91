"""Reward for naming a distortion and how severe it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.check import left_out
from vqathinker.choices import named
from vqathinker.scale import DEGREES
from vqathinker.types import FloatArray, RolloutBatch


class RecognitionReward:
    """`kind` for the right kind of distortion, and `severity` more if its severity is right too.

    Q-Insight (arXiv 2503.22679) rewards both, the severity of a wrong kind not at all; how much each counts
    is ours. The right answer is the sample's, "severity kind" or a kind alone; of a kind alone the right one
    is worth both. A response says so as the whole of its answer.
    """

    tasks = ("recognition",)

    def __init__(self, kind: float = 0.5, severity: float = 0.5, severities: Sequence[str] = DEGREES) -> None:
        """Set what each is worth, and the words of severities.

        Raises:
            ValueError: if one is worth less than nothing.
        """
        if not (kind >= 0 and severity >= 0):
            raise ValueError(f"kind and severity must not be negative, got {kind} and {severity}")
        self.kind = kind
        self.severity = severity
        self.severities = tuple(severities)

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards between 0 and kind + severity, masked where no answer is known."""
        rewards = np.full(batch.scores.shape, np.nan)
        for row, reference in enumerate(batch.reference):
            if reference is not None:
                rewards[row] = [self._reward(text, reference) for text in batch.texts[row]]
        return left_out(rewards)

    def metrics(self, batch: RolloutBatch) -> dict[str, float]:
        """The share of responses whose kind is right."""
        known = [row for row, reference in enumerate(batch.reference) if reference is not None]
        if not known:
            return {}
        right = [
            named(text, self.severities)[1] == named(str(batch.reference[row]), self.severities)[1]
            for row in known
            for text in batch.texts[row]
        ]
        return {"kind": float(np.mean(right))}

    def _reward(self, text: str, reference: str) -> float:
        severity, kind = named(text, self.severities)
        right_severity, right_kind = named(reference, self.severities)
        if not kind or kind != right_kind:
            return 0.0
        is_right = not right_severity or severity == right_severity
        return self.kind + (self.severity if is_right else 0.0)
