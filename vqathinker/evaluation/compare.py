"""Several runs side by side: what each reaches per data set and overall, and which differences are chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqathinker.evaluation.runs import RunScores as RunScores
from vqathinker.evaluation.runs import Scores as Scores
from vqathinker.evaluation.runs import read_run as read_run
from vqathinker.metrics import COMPARED as COMPARED
from vqathinker.metrics import Estimate, interval, overall
from vqathinker.types import FloatArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """How much better a run is than another on the same videos.

    Attributes:
        num_videos: videos that both have scored.
        change: difference of each of `COMPARED`, with its bootstrap interval.
        p_value: of each, two-sided: how likely so large a difference is if there is none.
    """

    num_videos: int
    change: tuple[Estimate, ...]
    p_value: tuple[float, ...]


def overall_of(runs: Sequence[RunScores], names: Sequence[str]) -> list[tuple[float, ...]]:
    """Return the metrics of each run over some data sets, weighted by their numbers of videos."""
    counts = [[len(run[name].videos) for name in names] for run in runs]
    values = [zip(*(run[name].measure() for name in names), strict=True) for run in runs]
    return [
        tuple(overall(value, count) for value in columns)
        for columns, count in zip(values, counts, strict=True)
    ]


def differences(
    base: RunScores,
    other: RunScores,
    groups: Mapping[str, Sequence[str]],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
    """Return by how much `other` exceeds `base` in groups of data sets, by the paired bootstrap.

    Videos are drawn with replacement within each data set, the same for both runs; a group is the mean over
    its data sets, weighted by their numbers of videos.

    Args:
        base: run to compare with.
        other: run to judge.
        groups: name of a group to the data sets in it, all of which both runs have.
        num_bootstrap: resamples.
        seed: of the resamples.

    Raises:
        ValueError: if a video has another label in the other run.
    """
    names = sorted({name for group in groups.values() for name in group})
    rng = np.random.default_rng(seed)
    pairs = {name: _pair(name, base[name], other[name]) for name in names}
    drawn = {name: _resample(*pair, num_bootstrap, rng) for name, pair in pairs.items()}
    found = {}
    for title, group in groups.items():
        counts = np.array([len(pairs[name][2]) for name in group])
        table = np.average([drawn[name] for name in group], axis=0, weights=np.maximum(counts, 1))
        found[title] = _difference(int(counts.sum()), table[0], table[1:])
    return found


def _pair(name: str, base: Scores, other: Scores) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (N,) scores of both runs and the labels, for the videos that both have scored."""
    places = {video: row for row, video in enumerate(other.videos)}
    rows = [(row, places[video]) for row, video in enumerate(base.videos) if video in places]
    left, right = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    differ = np.flatnonzero(~np.isclose(base.target[left], other.target[right]))
    if len(differ):
        video = base.videos[left[differ[0]]]
        raise ValueError(
            f"{name}: {video} has the label {base.target[left[differ[0]]]:g} in one run and "
            f"{other.target[right[differ[0]]]:g} in the other; evaluate both with the same labels and scale"
        )
    scored = np.isfinite(base.predicted[left]) & np.isfinite(other.predicted[right])
    left = left[scored]
    right = right[scored]
    return base.predicted[left], other.predicted[right], base.target[left]


def _resample(
    base: FloatArray, other: FloatArray, target: FloatArray, num_bootstrap: int, rng: np.random.Generator
) -> FloatArray:
    """Return (1 + resamples, metrics) differences, those of all videos first."""

    def change(index: NDArray[np.int64]) -> list[float]:
        label = target[index]
        return [metric(other[index], label) - metric(base[index], label) for metric in COMPARED.values()]

    num_videos = len(target)
    if not num_videos:
        return np.full((1 + num_bootstrap, len(COMPARED)), np.nan)
    draws = (rng.integers(num_videos, size=num_videos) for _ in range(num_bootstrap))
    return np.array([change(np.arange(num_videos)), *map(change, draws)])


def _difference(num_videos: int, value: FloatArray, resamples: FloatArray) -> Difference:
    """Sum up (metrics,) differences and their (resamples, metrics)."""
    estimates = []
    p_values = []
    for whole, column in zip(value, resamples.T, strict=True):
        defined = column[np.isfinite(column)]
        if not len(defined) or not np.isfinite(whole):
            estimates.append(Estimate(float(whole), np.nan, np.nan))
            p_values.append(np.nan)
            continue
        estimates.append(interval(float(whole), defined, CONFIDENCE))
        beyond = 1 + min((defined <= 0).sum(), (defined >= 0).sum())
        p_values.append(min(1.0, 2 * float(beyond) / (1 + len(defined))))
    return Difference(num_videos, tuple(estimates), tuple(p_values))
