"""Pictures and samples of a finished demo."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .build import SCORED
from .runs import read_log

TITLES = {"base": "base", "sft": "SFT", "grpo": "GRPO"}
SMOOTHING = 10  # steps per point of the curves
NUM_RESPONSES = 8  # per set


def plot_all(out: Path) -> None:
    """Write every picture of a demo in `out` to `out/plots`."""
    (out / "plots").mkdir(exist_ok=True)
    steps, validation = read_log(out / "grpo")
    names = [key for key in steps[0] if key.startswith("rewards/") and key.endswith("/mean")]
    pictures = {
        "reward": curves(steps, ["reward", *names], "mean over the batch"),
        "temporal_win_rate": curves(
            steps, ["rewards/temporal/win_rate"], "share of twins that score below their video"
        ),
        "validation": validation_curves({"grpo": validation, "sft": read_log(out / "sft")[1]}),
        "scores": scatter(out / "scores"),
    }
    for name, figure in pictures.items():
        figure.savefig(out / "plots" / f"{name}.png", dpi=120)


def smooth(values: list[float]) -> np.ndarray:
    """Means of the last `SMOOTHING` values."""
    sums = np.cumsum([0.0, *values])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - SMOOTHING, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def curves(steps: list[dict[str, Any]], names: list[str], label: str) -> Figure:
    """Quantities of the training log, smoothed."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in names:
        axes.plot(smooth([e[name] for e in steps]), label=name.removeprefix("rewards/").removesuffix("/mean"))
    axes.set(xlabel="GRPO step", ylabel=f"{label}, {SMOOTHING} steps")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")  # beside the curves, whose ends it would hide
    return figure


def validation_curves(runs: dict[str, list[dict[str, Any]]]) -> Figure:
    """SRCC on the validation clips against the share of the training."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, entries in runs.items():
        if entries:
            last = entries[-1]["step"]
            axes.plot(
                [e["step"] / last for e in entries], [e["eval_srcc"] for e in entries], label=TITLES[name]
            )
    axes.set(xlabel="share of the training", ylabel="SRCC, validation clips")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def scatter(scores: Path) -> Figure:
    """Predicted against mean opinion scores, a row per set and a column per model."""
    figure = Figure(figsize=(9, 9), layout="constrained")
    grid = figure.subplots(len(SCORED), len(TITLES), sharex=True, sharey=True)
    for row, name in zip(grid, SCORED, strict=True):
        for axes, (model, title) in zip(row, TITLES.items(), strict=True):
            table = pd.read_csv(scores / model / name / "predictions.csv")
            axes.plot([1, 5], [1, 5], color="grey", linewidth=0.8)
            axes.scatter(table["target"], table["score"], s=5)
            axes.set(title=f"{title}, {name}: {table['score'].nunique()} distinct", xlim=(1, 5), ylim=(1, 5))
    figure.supxlabel("mean opinion score")
    figure.supylabel("predicted")
    return figure


def write_responses(out: Path) -> None:
    """Write what each model says about some clips."""
    lines = ["| clip | MOS | " + " | ".join(TITLES.values()) + " |", "|---|---|" + "---|" * len(TITLES)]
    for name in SCORED:
        tables = [pd.read_csv(out / "scores" / model / name / "predictions.csv") for model in TITLES]
        for rows in islice(zip(*(table.itertuples() for table in tables), strict=True), NUM_RESPONSES):
            said = " | ".join(f"`{row.text}`" for row in rows)
            lines.append(f"| {rows[0].video_id} | {rows[0].target:.2f} | {said} |")
    (out / "responses.md").write_text("\n".join(lines) + "\n")
