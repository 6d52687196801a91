"""What is asked of rewards before a batch, and what is logged of one.

Knows no trainer and no process group.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from rewards import from_trl
from rewards.check import metrics_of
from vqathinker import answers
from vqathinker.samples import SCORE
from vqathinker.scale import off_scale
from vqathinker.types import Reward, RolloutBatch


def as_reward(function: Callable[..., Any]) -> Reward:
    """A reward as it is, or a TRL-style function made one; its parameter `completions` tells them apart."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some built-in callables have no signature
        return function
    return from_trl(function) if "completions" in parameters else function


def accepts_answer_only(rewards: Mapping[str, Reward]) -> bool:
    """Whether a reward accepts responses without reasoning (the "no reasoning" ablation)."""
    return any(getattr(reward, "think", True) is False for reward in rewards.values())


def draws_twins(rewards: Iterable[Callable[..., Any]], perturbations: Collection[object]) -> bool:
    """Whether perturbed copies are generated: some perturbation is configured and some reward asks for them.

    A reward asks by an attribute `needs_perturbed`, a TRL-style function also by a parameter `twin_text`.
    """
    asks = any(getattr(as_reward(reward), "needs_perturbed", False) for reward in rewards)
    return asks and bool(perturbations)


def batch_metrics(batch: RolloutBatch, rewards: Mapping[str, Reward]) -> dict[str, float]:
    """Parse failures, spread and correlation of the scores, and what the rewards themselves report.

    `scores/off_scale` is the share of the scores outside 1-5. Spread and correlations take scores as at most
    one step off the scale, as the ranking does: a single answer of 2444 would be all that they show.
    A reward with a method `metrics(batch) -> dict[str, float]` adds entries `rewards/<label>/<name>`.

    Raises:
        RuntimeError: if such a method fails.
    """
    found = {
        f"rewards/{label}/{name}": value
        for label, reward in rewards.items()
        for name, value in metrics_of(reward, batch, label).items()
    }
    scored = batch.select([row for row, task in enumerate(batch.task) if task == SCORE])
    return found | _score_metrics(scored) if scored.num_videos else found


def _score_metrics(batch: RolloutBatch) -> dict[str, float]:
    """What the responses to samples of the task `score` say."""
    from vqathinker.metrics import plcc, srcc  # a plan, which needs no scipy.stats, imports this module too

    valid = np.isfinite(batch.scores)
    scores = np.clip(batch.scores, *answers.OUTER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a video without a valid score has the mean NaN
        means = np.nanmean(scores, axis=1)
        spread = float(np.nanmean(np.nanstd(scores, axis=1)))
    known = np.isfinite(means)
    return {
        "scores/parse_failures": float(1 - valid.mean()),
        "scores/off_scale": float(off_scale(batch.scores[valid]).mean()) if valid.any() else 0.0,
        "scores/spread": spread,
        "scores/srcc": srcc(means[known], batch.target[known]),
        "scores/plcc": plcc(means[known], batch.target[known]),
    }
