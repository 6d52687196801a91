"""Rewards: one file, one class, one key each.

A reward maps a `vqathinker.types.RolloutBatch` to float64 (N, K). This package knows the ground floor only:
no model, no trainer, no torch.
"""

from __future__ import annotations

from rewards.check import evaluate as evaluate
from rewards.choice import ChoiceReward as ChoiceReward
from rewards.coarse_regression import CoarseRegressionReward as CoarseRegressionReward
from rewards.format import FormatReward as FormatReward
from rewards.judge import JudgeReward as JudgeReward
from rewards.length import LengthReward as LengthReward
from rewards.linear import LinearReward as LinearReward
from rewards.ranking import RankingReward as RankingReward
from rewards.recognition import RecognitionReward as RecognitionReward
from rewards.regression import RegressionReward as RegressionReward
from rewards.temporal import TemporalConsistencyReward as TemporalConsistencyReward
from rewards.threshold import ThresholdReward as ThresholdReward
from rewards.trl import as_trl as as_trl
from rewards.trl import from_trl as from_trl
from vqathinker import plugins
from vqathinker.types import Reward

GROUP = "vqathinker.rewards"
REWARDS: dict[str, type[Reward]] = {
    "format": FormatReward,
    "regression": RegressionReward,
    "ranking": RankingReward,
    "temporal": TemporalConsistencyReward,
    "threshold": ThresholdReward,
    "linear": LinearReward,
    "length": LengthReward,
    "coarse_regression": CoarseRegressionReward,
    "recognition": RecognitionReward,
    "choice": ChoiceReward,
    "judge": JudgeReward,
}


def load(name: str, **kwargs: object) -> Reward:
    """Return a reward by its key, a dotted path `package.module:Name` or an entry point.

    Raises:
        ValueError: for an unknown name or argument.

    >>> load("regression", sigma=0.3).sigma
    0.3
    """
    reward: Reward = plugins.resolve(name, REWARDS, group=GROUP, **kwargs)
    return reward
