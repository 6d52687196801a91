"""Scores against labels, and the rows of an ablation, as pictures. Loads matplotlib when it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker.atomic import whole_file
from vqathinker.metrics import Metrics, fit_logistic
from vqathinker.scale import SCALE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vqathinker.evaluation.ablations import Ablation, Figures

NUM_POINTS = 200


def scatter(rows: Sequence[Mapping[str, Any]], metrics: Metrics, path: Path) -> None:
    """Write a PNG file: a point per video with a score, a colour per data set, the logistic mapping.

    Args:
        rows: as in `Evaluation.rows`.
        metrics: of these rows, for the title.
        path: of the picture.
    """
    with whole_file(path) as part:
        draw(rows, metrics).savefig(part, format="png", dpi=150, metadata={"Software": None})


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
    line = np.linspace(*SCALE, NUM_POINTS)
    axes.plot(line, fit_logistic(scores, targets)(line), color="black", linewidth=1, label="logistic mapping")
    axes.plot(SCALE, SCALE, color="grey", linewidth=0.8, linestyle="--", label="equal")
    axes.set(
        title=f"SRCC {metrics.srcc.value:.3f}, PLCC {metrics.plcc.value:.3f}, {metrics.num_videos} videos",
        xlabel="predicted score",
        ylabel="mean opinion score, on 1 to 5",
    )
    axes.legend(fontsize="small")
    return figure


def draw_table(table: Ablation, figures: Mapping[str, Figures]) -> Figure:
    """The SRCC of each row of an ablation with its interval, a panel per domain; published values beside."""
    from matplotlib.figure import Figure

    from vqathinker.evaluation.ablations import DOMAINS, estimate

    names = list(figures)
    figure = Figure(figsize=(9, 1.4 + 0.4 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(DOMAINS), sharey=True)
    for axes, (domain, title) in zip(panels, DOMAINS.items(), strict=True):
        for place, name in enumerate(names):
            values = figures[name].domains[domain][:, 0]
            reached = estimate(values)
            half = 0 if np.isnan(reached.low) else reached.high - reached.value
            axes.errorbar(reached.value, place, xerr=half, fmt="o", color="C0", capsize=3)
            axes.plot(values, np.full(len(values), place), "|", color="C0", alpha=0.6)
            paper = table.rows[name].paper.get(domain)
            if paper is not None:
                axes.plot(paper[0], place, "D", markerfacecolor="none", color="C1")
        axes.set(title=f"SRCC, {title}")
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(names)), [table.rows[name].title for name in names])
    panels[0].invert_yaxis()
    figure.supxlabel(
        "circle: mean over the seeds, 95 % interval; strokes: seeds; diamond: as published", size=8
    )
    return figure
