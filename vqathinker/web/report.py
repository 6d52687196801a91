"""Reports of what the commands have written: scores of files, an evaluation, a run of training."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from vqathinker.checkpoints.folders import SETTINGS_FILE, STATE_FILE, checkpoints_in
from vqathinker.evaluation.folder import PREDICTIONS_FILE, SUMMARY_FILE
from vqathinker.evaluation.runs import read_table
from vqathinker.journal import read_lines
from vqathinker.media.guarded import GuardedReader
from vqathinker.web.html import Card, ReportPage, ReportTable, histogram, sparkline, svg, thumbnails

SCORES_FILE = "scores.jsonl"
NUM_EXTREMES = 6
MOST_THUMBNAILS = 500
Rows = Sequence[Mapping[str, Any]]


def report_of(folder: Path) -> ReportPage:
    """The report of a folder: of `evaluate`, of `score --out`, or of a run of training.

    Raises:
        ValueError: if it holds none of them.
        OSError: if a file cannot be read.
    """
    if (folder / PREDICTIONS_FILE).is_file():
        return evaluation_page(folder)
    if (folder / SCORES_FILE).is_file():
        return scores_page(read_lines(folder / SCORES_FILE), title=folder.name)
    state = _state_of(folder)
    if state is not None:
        return training_page(folder, state)
    raise ValueError(
        f"{folder} holds neither {PREDICTIONS_FILE}, {SCORES_FILE} nor {STATE_FILE}: give a folder that "
        "evaluate, score --out or training has finished"
    )


def scores_page(rows: Rows, title: str) -> ReportPage:
    """Scores of files: each with a picture, its reasoning and its course over time.

    Args:
        rows: as `Score.to_dict` gives them; the windows of a timeline follow one another.
        title: of the page.
    """
    files: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        files.setdefault(os.path.abspath(row["path"]), []).append(row)
    known = {path: value for path, parts in files.items() if (value := _mean(parts)) is not None}
    order = sorted(known, key=lambda path: known[path])
    number = min(NUM_EXTREMES, len(order) // 2)
    extremes = [*order[:number], *order[::-1][:number]]
    with closing(GuardedReader()) as reader:
        pictures = thumbnails(list(dict.fromkeys([*extremes, *list(files)[:MOST_THUMBNAILS]])), reader)
    start = os.path.commonpath([os.path.dirname(path) for path in files]) if files else ""
    has_windows = any(len(parts) > 1 for parts in files.values())
    header = ["", "file", "score", *(["over time"] if has_windows else []), "reasoning or answer", "error"]
    table = [
        [
            {"picture": pictures.get(path, "")},
            os.path.relpath(path, start),
            _number(known.get(path)),
            *([{"svg": _course(parts)}] if has_windows else []),
            _words(parts[0]),
            parts[0].get("error") or "",
        ]
        for path, parts in files.items()
    ]

    def cards(paths: Iterable[str]) -> list[Card]:
        return [
            Card(os.path.basename(path), f"{known[path]:.2f}", _words(files[path][0]), pictures.get(path, ""))
            for path in paths
        ]

    return ReportPage(
        title,
        facts=[
            ("folder", start),
            ("files", len(files)),
            ("without a score", len(files) - len(known)),
            ("mean score", f"{sum(known.values()) / len(known):.2f}" if known else "–"),
        ],
        figures=[("Scores", histogram(list(known.values())))] if known else [],
        galleries=[
            ("The worst", cards(order[:number])),
            ("The best", cards(order[::-1][:number])),
        ],
        tables=[ReportTable("All files", header, table)],
    )


def evaluation_page(folder: Path) -> ReportPage:
    """An evaluation: its metrics, scores against labels, and where they differ most."""
    from vqathinker.evaluation.plot import draw
    from vqathinker.evaluation.summary import measure

    try:
        rows = _predictions(folder / PREDICTIONS_FILE)
        summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        metrics = {name: found for name, found in summary["metrics"].items() if isinstance(found, dict)}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is no result of `vqathinker evaluate`: {error!r}") from error
    facts = [(name.upper().replace("_", " "), _estimate(found)) for name, found in metrics.items()]
    facts += [(name, summary[name]) for name in ("videos", "unreadable", "unparsed", "clipped")]
    off = sorted((row for row in rows if not math.isnan(row["score"])), key=_distance, reverse=True)
    with closing(GuardedReader()) as reader:
        pictures = thumbnails([row["path"] for row in off[:NUM_EXTREMES]], reader)
    cards = [
        Card(
            row["video_id"],
            f"{row['score']:.2f}, not {row['target']:.2f}",
            row["text"],
            pictures.get(row["path"], ""),
        )
        for row in off[:NUM_EXTREMES]
    ]
    table = [
        [
            row["video_id"],
            row["dataset"],
            row["target"],
            _number(row["score"]),
            _number(_distance(row)),
            row["text"],
            row["error"] or "",
        ]
        for row in rows
    ]
    header = ["video", "data set", "MOS on 1–5", "score", "difference", "response", "error"]
    return ReportPage(
        folder.name,
        facts=facts,
        figures=[("Scores against labels", svg(draw(rows, measure(rows))))],
        galleries=[("Where score and label differ most", cards)],
        tables=[ReportTable("All videos", header, table)],
    )


def _predictions(path: Path) -> list[dict[str, Any]]:
    """The rows of an evaluation's table, their numbers as such."""
    return [
        {
            **row,
            "score": float(row["score"] or "nan"),
            "target": float(row["target"]),
            "error": row["error"] or None,
        }
        for row in read_table(path)
    ]


def training_page(folder: Path, state_file: Path) -> ReportPage:
    """A run of training: its figures over the steps, its validations and settings."""
    state = json.loads(state_file.read_text(encoding="utf-8"))
    logs = [entry for entry in state["log_history"] if "reward" in entry or "loss" in entry]
    validations = [entry for entry in state["log_history"] if "eval_srcc" in entry]
    parts = [
        name for name in (logs[-1] if logs else {}) if name.startswith("rewards/") and name.endswith("/mean")
    ]
    drawn: list[tuple[str, list[str]]] = [
        ("reward", ["reward"]), ("rewards, mean", parts), ("loss", ["loss"]),
        ("scores", ["scores/srcc", "scores/parse_failures"]), ("KL and entropy", ["kl", "entropy"]),
        ("tokens of a response", ["completions/mean_length"]),
    ]  # fmt: skip
    figures = [
        (title, _curves(logs, names, title))
        for title, names in drawn
        if any(name in entry for entry in logs for name in names)
    ]
    if validations:
        figures.append(("validation", _curves(validations, ["eval_srcc", "eval_plcc"], "validation")))
    last = validations[-1] if validations else {}
    settings = folder / SETTINGS_FILE
    told = yaml.safe_load(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    table = [[name, _setting(value)] for name, value in told.items()]
    return ReportPage(
        folder.name,
        facts=[
            ("steps", state["global_step"]),
            *(
                (name.removeprefix("eval_"), _number(last[name]))
                for name in ("eval_srcc", "eval_plcc")
                if name in last
            ),
        ],
        figures=figures,
        tables=[ReportTable("Settings", ["option", "value"], table)],
    )


def _state_of(folder: Path) -> Path | None:
    """The last state of a run."""
    if (folder / STATE_FILE).is_file():
        return folder / STATE_FILE
    found = checkpoints_in(folder)
    return found[max(found)] / STATE_FILE if found else None


def _setting(value: Any) -> str:  # noqa: ANN401  what a YAML may hold
    """A setting as a YAML writes it, on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()


def _curves(entries: Rows, names: Sequence[str], title: str) -> str:
    """Logged figures over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.6), layout="constrained")
    axes = figure.add_subplot()
    for name in names:
        points = [
            (entry["step"], entry[name]) for entry in entries if isinstance(entry.get(name), int | float)
        ]
        if points:
            label = name.removeprefix("rewards/").removesuffix("/mean").removeprefix("eval_")
            axes.plot(*zip(*points, strict=True), label=label, linewidth=1)
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    if len(names) > 1:
        axes.legend(fontsize="small")
    return svg(figure)


def _mean(parts: Rows) -> float | None:
    """The mean score of a file's windows, None where none has a score."""
    scores = [part["score"] for part in parts if part.get("score") is not None]
    return sum(scores) / len(scores) if scores else None


def _course(parts: Rows) -> str:
    points = [
        ((part["start"] + part["end"]) / 2, part["score"]) for part in parts if part.get("score") is not None
    ]
    return sparkline(points) if len(points) > 1 else ""


def _words(row: Mapping[str, Any]) -> str:
    return str(row.get("reasoning") or row.get("text") or "")


def _number(value: Any) -> float | str:  # noqa: ANN401  what a JSON file may hold
    is_known = isinstance(value, int | float) and not math.isnan(value)
    return round(float(value), 3) if is_known else ""


def _distance(row: Mapping[str, Any]) -> float:
    return abs(float(row["score"]) - float(row["target"]))


def _estimate(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "–"
    bounds = (found["low"], found["high"])
    between = "" if None in bounds else f" [{bounds[0]:.3f}, {bounds[1]:.3f}]"
    return f"{found['value']:.3f}{between}"
