"""Predictions for a data set, what they are worth, and the files that say so.

Source of the metrics: VQAThinker (arXiv 2508.06051), section 4.1.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker.atomic import write_table, write_whole
from vqathinker.evaluation.folder import (
    PLOT_FILE,
    PREDICTIONS_FILE,
    SUMMARY_FILE,
    TABLE_FILES,
    require_free,
)
from vqathinker.evaluation.markup import cell, latex, markdown
from vqathinker.evaluation.plot import scatter
from vqathinker.journal import without_nan
from vqathinker.metrics import METRICS, Metrics, correlations, overall

if TYPE_CHECKING:
    from datasets import Dataset

LABEL_COLUMNS = ("video_id", "dataset", "path", "mos", "target")
COLUMNS = (*LABEL_COLUMNS, "score", "error", "text")
LAYOUTS = (markdown, latex)


@dataclass(frozen=True)
class Evaluation:
    """Predictions for a data set and what they are worth.

    Attributes:
        metrics: over the readable videos; responses that do not parse count as failed.
        num_unreadable: files that could not be read.
        num_clipped: scores outside the 1-5 scale, set to its nearer end.
        settings: what shaped the numbers: weights, frames, prompt, precision, sampling, versions, labels.
        rows: one mapping with `COLUMNS` per video.
        datasets: the metrics of each data set alone.
        num_pending: videos without a result, left to other shards.
    """

    metrics: Metrics
    num_unreadable: int
    num_clipped: int
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    datasets: dict[str, Metrics]
    num_pending: int = 0

    def write(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write `predictions.csv` and `summary.json`, each in one piece, then tables and a scatter plot.

        Raises:
            ValueError: if one of them exists and may not be overwritten.
        """
        require_free(directory, overwrite=overwrite)
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_table(directory / PREDICTIONS_FILE, COLUMNS, self.rows)
        text = json.dumps(without_nan(self.summary()), indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(directory / SUMMARY_FILE, text + "\n")
        for name, layout in zip(TABLE_FILES, LAYOUTS, strict=True):
            write_whole(directory / name, layout(*self.table()))
        scatter(self.rows, self.metrics, directory / PLOT_FILE)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return a header and a row per data set, as text; of several also their weighted mean."""
        titles = [name.upper().replace("_LOGISTIC", " (logistic)") for name in METRICS]
        rows = []
        for name, metrics in self.datasets.items():
            counts = (len(self._rows(name)), self._num_unreadable(name), metrics.num_failed)
            rows.append([name, *map(str, counts), *(cell(getattr(metrics, metric)) for metric in METRICS)])
        if len(self.datasets) > 1:
            counts = (len(self.rows), self.num_unreadable, self.metrics.num_failed)
            means = [f"{value:.4f}" for value in self.overall().values()]
            rows.append(["overall", *map(str, counts), *means])
        return ["data set", "videos", "unreadable", "unparsed", *titles], rows

    def overall(self) -> dict[str, float]:
        """Return each metric's mean over the data sets, weighted by their numbers of videos."""
        counts = [len(self._rows(name)) for name in self.datasets]
        return {
            metric: overall([getattr(metrics, metric).value for metrics in self.datasets.values()], counts)
            for metric in METRICS
        }

    def _rows(self, dataset: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["dataset"] == dataset]

    def _num_unreadable(self, dataset: str) -> int:
        return sum(row["error"] is not None for row in self._rows(dataset))

    def summary(self) -> dict[str, Any]:
        """Return everything but the rows."""
        return {
            "videos": len(self.rows),
            "unreadable": self.num_unreadable,
            "unparsed": self.metrics.num_failed,
            "clipped": self.num_clipped,
            "metrics": self.metrics.to_dict(),
            "overall": self.overall(),
            "datasets": {
                name: {"videos": len(self._rows(name)), "unreadable": self._num_unreadable(name)}
                | metrics.to_dict()
                for name, metrics in self.datasets.items()
            },
            "settings": self.settings,
        }


def summarise(
    dataset: Dataset, results: Mapping[int, Mapping[str, Any]], settings: Mapping[str, Any]
) -> Evaluation:
    """Put labels and results together, in the order of the labels.

    Args:
        dataset: rows of `load_labels`.
        results: row number to `score`, `clipped`, `error`, `text` and `batch_size`; may lack rows.
        settings: what shaped the results.
    """
    rows = []
    num_clipped = 0
    for row, label in enumerate(dataset):
        if row not in results:  # another shard's
            continue
        result = results[row]
        known = {name: label[name] for name in LABEL_COLUMNS}
        score = math.nan if result["score"] is None else result["score"]  # as journals have it
        rows.append(known | {"score": score, "error": result["error"], "text": result["text"]})
        if result["clipped"]:
            num_clipped += 1
    names = list(dict.fromkeys(row["dataset"] for row in rows))
    datasets = {name: measure([row for row in rows if row["dataset"] == name]) for name in names}
    # a greedy run may have gone on with another size, which can change a score in its last digits
    sizes = sorted({result["batch_size"] for result in results.values()})
    return Evaluation(
        metrics=datasets[names[0]] if len(names) == 1 else measure(rows),
        num_unreadable=sum(row["error"] is not None for row in rows),
        num_clipped=num_clipped,
        settings={**settings, "batch_size": sizes},
        rows=rows,
        datasets=datasets,
        num_pending=dataset.num_rows - len(rows),
    )


def measure(rows: Sequence[Mapping[str, Any]]) -> Metrics:
    """Return the metrics over the readable videos of some rows."""
    # an answer without a score is NaN there and counts as failed; a file that cannot be read is no answer
    readable = [(row["score"], row["target"]) for row in rows if row["error"] is None]
    scores, targets = np.array(readable, dtype=np.float64).reshape(-1, 2).T
    return correlations(scores, targets)
