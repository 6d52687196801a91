"""Results as text: a line of JSON, a row of a CSV file, a line for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from vqathinker import answers

NESTED = (list, dict)


def json_line(row: Mapping[str, Any]) -> str:
    """One result as a line of JSON."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One result as a row of a CSV file: lists and mappings as JSON."""
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, NESTED) else value
        for name, value in row.items()
    }


def table_line(row: Mapping[str, Any], *, windows: bool, reasoning: bool, with_header: bool) -> str:
    """One result for people: numbers in columns, the path last, the model's words below.

    Args:
        row: a score or an answer as its `to_dict` gives it.
        windows: whether the score is that of a window, whose place in the video is shown.
        reasoning: whether the reasoning is shown.
        with_header: whether this is the first line.
    """
    if "question" in row:
        if row["error"] is not None:
            return ""
        return f"{row['path']}\n{indented(answers.without_tags(row['text']))}"
    shown = {"score": row["score"]}
    if row["mode"] == "samples":
        shown["spread"] = row["spread"]
    if windows:
        shown |= {"from": row["start"], "to": row["end"]}
    else:
        shown["length"] = row["end"]
    header = "".join(f"{name:>9}" for name in shown) + "  video\n" if with_header else ""
    cells = "".join(f"{_cell(name, value):>9}" for name, value in shown.items())
    words = indented(row["reasoning"]) if reasoning and row["reasoning"] else ""
    return f"{header}{cells}  {row['path']}\n{words}"


def _cell(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2f}" if name in {"score", "spread"} else f"{value:.2f} s"


def indented(text: str) -> str:
    r"""Lines of text, each moved to the right.

    >>> indented("soft edges")
    '  soft edges\n'
    """
    return "".join(f"  {line.strip()}\n" for line in text.splitlines() if line.strip()) or "  -\n"
