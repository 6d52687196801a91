"""Several runs side by side: what each reaches per data set and overall, and which differences are chance.

Reads what `Evaluation.write` has written; needs no model.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vqathinker.evaluation.journal import PATTERN
from vqathinker.evaluation.result import PREDICTIONS_FILE
from vqathinker.metrics import Estimate, overall, plcc, srcc
from vqathinker.types import FloatArray

COMPARED: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {"SRCC": srcc, "PLCC": plcc}
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Scores:
    """What one run says about one data set.

    Attributes:
        videos: N names.
        predicted: (N,) scores, NaN where there is none.
        target: (N,) labels on the 1-5 scale.
    """

    videos: tuple[str, ...]
    predicted: FloatArray
    target: FloatArray

    def measure(self) -> tuple[float, ...]:
        """Return the `COMPARED` metrics over the videos with a score."""
        return tuple(metric(self.predicted, self.target) for metric in COMPARED.values())


Run = Mapping[str, Scores]


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


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read the results of a folder, or of the folders in it: data set name to scores.

    Raises:
        ValueError: if there is no finished result, or two of one data set.
        OSError: if a file cannot be read.
    """
    path = Path(path)
    files = [path / PREDICTIONS_FILE] if (path / PREDICTIONS_FILE).is_file() else []
    files = files or sorted(path.glob(f"*/{PREDICTIONS_FILE}"))
    if not files:
        unfinished = any(path.glob(PATTERN)) or any(path.glob(f"*/{PATTERN}"))
        if unfinished:
            raise ValueError(f"{path} is not finished, go on with the same `vqathinker evaluate`")
        raise ValueError(f"{path} {'holds no result' if path.is_dir() else 'is not a folder'}")
    run: dict[str, Scores] = {}
    for file in files:
        for name, scores in _read_predictions(file).items():
            if name in run:
                raise ValueError(f"{path} holds two results for {name}; move one of them away")
            run[name] = scores
    return run


def _read_predictions(file: Path) -> dict[str, Scores]:
    limit = csv.field_size_limit(sys.maxsize)  # many long responses to one video
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    finally:
        csv.field_size_limit(limit)  # of the whole process
    try:
        names = dict.fromkeys(row["dataset"] for row in rows)
        parts = {name: [row for row in rows if row["dataset"] == name] for name in names}
        return {
            name: Scores(
                tuple(row["video_id"] for row in part),
                np.array([row["score"] for row in part], dtype=np.float64),
                np.array([row["target"] for row in part], dtype=np.float64),
            )
            for name, part in parts.items()
        }
    except (KeyError, ValueError) as error:
        raise ValueError(f"{file} is no result of `vqathinker evaluate`: {error}") from error


def overall_of(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[float, ...]]:
    """Return the metrics of each run over some data sets, weighted by their numbers of videos."""
    counts = [[len(run[name].videos) for name in names] for run in runs]
    values = [zip(*(run[name].measure() for name in names), strict=True) for run in runs]
    return [
        tuple(overall(value, count) for value in columns)
        for columns, count in zip(values, counts, strict=True)
    ]


def differences(
    base: Run,
    other: Run,
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
    left, right = left[scored], right[scored]
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
    estimates, p_values = [], []
    for whole, column in zip(value, resamples.T, strict=True):
        defined = column[np.isfinite(column)]
        if not len(defined) or not np.isfinite(whole):
            estimates.append(Estimate(float(whole), np.nan, np.nan))
            p_values.append(np.nan)
            continue
        low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        estimates.append(Estimate(float(whole), float(low), float(high)))
        beyond = 1 + min((defined <= 0).sum(), (defined >= 0).sum())
        p_values.append(min(1.0, 2 * float(beyond) / (1 + len(defined))))
    return Difference(num_videos, tuple(estimates), tuple(p_values))
