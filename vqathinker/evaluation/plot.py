"""Predicted scores against labels, as a picture. Loads matplotlib when it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker.media.dataset import TARGET_RANGE
from vqathinker.metrics import Metrics, fit_logistic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_POINTS = 200


def scatter(rows: Sequence[Mapping[str, Any]], metrics: Metrics, path: Path) -> None:
    """Write a PNG file: a point per video with a score, a colour per data set, the logistic mapping.

    Args:
        rows: as in `Evaluation.rows`.
        metrics: of these rows, for the title.
        path: of the picture.
    """
    draw(rows, metrics).savefig(path, dpi=150, metadata={"Software": None})


def draw(rows: Sequence[Mapping[str, Any]], metrics: Metrics) -> Figure:
    """The picture of `scatter`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(row["dataset"] for row in rows))
    for name in names:
        part = [row for row in rows if row["dataset"] == name]
        score, target = ([row[key] for row in part] for key in ("score", "target"))
        axes.scatter(score, target, s=8, alpha=0.6, label=name)
    scores, targets = np.array([(row["score"], row["target"]) for row in rows]).reshape(-1, 2).T
    line = np.linspace(*TARGET_RANGE, NUM_POINTS)
    axes.plot(line, fit_logistic(scores, targets)(line), color="black", linewidth=1, label="logistic mapping")
    axes.plot(TARGET_RANGE, TARGET_RANGE, color="grey", linewidth=0.8, linestyle="--", label="equal")
    axes.set(
        title=f"SRCC {metrics.srcc.value:.3f}, PLCC {metrics.plcc.value:.3f}, {metrics.num_videos} videos",
        xlabel="predicted score",
        ylabel="mean opinion score, on 1 to 5",
    )
    axes.legend(fontsize="small")
    return figure
