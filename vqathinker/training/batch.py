"""From gathered rows to one `RolloutBatch` and what is logged of it.

Knows no trainer and no process group.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rewards import from_trl
from vqathinker.metrics import plcc, srcc
from vqathinker.types import Reward, RolloutBatch

ROW_KEYS = ("dataset", "video_id", "target", "twin_text")


@dataclass(frozen=True)
class Record:
    """One row with its response, as the processes exchange it."""

    dataset: str
    video_id: str
    target: float
    text: str
    twin_text: str | None
    skipped: bool
    columns: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any], text: str, skipped: bool) -> Record:
        """Take what the rewards may need of a data set row."""
        columns = {key: value for key, value in row.items() if key not in ROW_KEYS}
        twin = row.get("twin_text")
        return cls(row["dataset"], row["video_id"], row["target"], text, twin, skipped, columns)


def collect(
    records: Sequence[Record], *, think: bool = True
) -> tuple[RolloutBatch | None, dict[int, tuple[int, int]]]:
    """Group the records of all processes by video.

    Args:
        records: one per row, in any order; those marked as skipped are left out.
        think: whether responses need a think block to have a score.

    Returns:
        The batch (None if every record is skipped) and, for each record kept, its place (video, response).

    Raises:
        ValueError: if the videos do not all have the same number of responses.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for place, record in enumerate(records):
        if not record.skipped:
            groups.setdefault((record.dataset, record.video_id), []).append(place)
    if not groups:
        return None, {}
    first = [records[rows[0]] for rows in groups.values()]
    texts = [[records[place].text for place in rows] for rows in groups.values()]
    twins = [[records[place].twin_text for place in rows] for rows in groups.values()]
    batch = RolloutBatch.from_texts(
        texts,
        [record.target for record in first],
        video_id=[record.video_id for record in first],
        dataset=[record.dataset for record in first],
        perturbed=None if first[0].twin_text is None else twins,  # type: ignore[arg-type]
        columns={name: [record.columns[name] for record in first] for name in first[0].columns},
        think=think,
    )
    places = {place: (i, k) for i, rows in enumerate(groups.values()) for k, place in enumerate(rows)}
    return batch, places


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


def log_batch(batch: RolloutBatch, rewards: Mapping[str, Reward], log: Callable[[str, float], None]) -> None:
    """Log parse failures, spread and correlation of the scores, and what the rewards themselves report.

    A reward with a method `metrics(batch) -> dict[str, float]` adds entries `rewards/<label>/<name>`.
    """
    valid = np.isfinite(batch.scores)
    log("scores/parse_failures", float(1 - valid.mean()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a video without a valid score has the mean NaN
        means = np.nanmean(batch.scores, axis=1)
        log("scores/spread", float(np.nanmean(np.nanstd(batch.scores, axis=1))))
    known = np.isfinite(means)
    log("scores/srcc", srcc(means[known], batch.target[known]))
    log("scores/plcc", plcc(means[known], batch.target[known]))
    for label, reward in rewards.items():
        for name, value in getattr(reward, "metrics", lambda _: {})(batch).items():
            log(f"rewards/{label}/{name}", value)
