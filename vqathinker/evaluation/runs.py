"""What `vqathinker evaluate` has written, read back. Needs no model, and SciPy only to measure."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqathinker.evaluation.folder import PREDICTIONS_FILE
from vqathinker.journal import PATTERN
from vqathinker.types import FloatArray


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
        from vqathinker.metrics import COMPARED  # brings SciPy, which reading does without

        return tuple(metric(self.predicted, self.target) for metric in COMPARED.values())


RunScores = Mapping[str, Scores]


def read_run(path: str | os.PathLike[str]) -> RunScores:
    """Read the results of a folder, or of the folders in it: data set name to scores.

    Raises:
        ValueError: if there is no finished result, or two of one data set.
        OSError: if a file cannot be read.
    """
    path = Path(path)
    files = [path / PREDICTIONS_FILE] if (path / PREDICTIONS_FILE).is_file() else []
    files = files or sorted(path.glob(f"*/{PREDICTIONS_FILE}"))
    if not files:
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder")
        if any(path.glob(PATTERN)) or any(path.glob(f"*/{PATTERN}")):
            raise ValueError(f"{path} is not finished, go on with the same `vqathinker evaluate`")
        raise ValueError(f"{path} holds no result")
    run: dict[str, Scores] = {}
    for file in files:
        for name, scores in _read_predictions(file).items():
            if name in run:
                raise ValueError(f"{path} holds two results for {name}; move one of them away")
            run[name] = scores
    return run


def read_table(file: Path) -> list[dict[str, str]]:
    """The rows of a table of predictions as they are written."""
    limit = csv.field_size_limit(sys.maxsize)  # many long responses to one video
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    finally:
        csv.field_size_limit(limit)  # of the whole process


def _read_predictions(file: Path) -> dict[str, Scores]:
    rows = read_table(file)
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
