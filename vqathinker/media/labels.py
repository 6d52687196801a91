"""The formats of label files, each read into the same three lists.

Names, scores and line numbers come out as written; `dataset` checks them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Labels:
    """A label file as written, nothing checked.

    Attributes:
        names: N names of videos.
        mos: N mean opinion scores as text.
        places: N line numbers (annotation numbers in JSON), from 1.
        columns: every other column, N values each.
        unit: what `places` counts.
        suffix: what to append to a name without a video's suffix.
    """

    names: list[str]
    mos: list[str]
    places: list[int]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    unit: str = "line"
    suffix: str = ""

    def keep(self, rows: NDArray[np.intp]) -> Labels:
        """Return some of the rows."""

        def take(values: list[Any]) -> list[Any]:
            return [values[row] for row in rows]

        columns = {name: take(values) for name, values in self.columns.items()}
        return Labels(take(self.names), take(self.mos), take(self.places), columns, self.unit, self.suffix)

    def at(self, row: int | np.intp) -> str:
        """Name the place of a row: "line 3: clips/a.mp4"."""
        return f"{self.unit} {self.places[row]}: {self.names[row]}"


def read(text: str, label_format: str | None = None) -> Labels:
    """Read the text of a label file in one of the `FORMATS`, detected from the content if None is given.

    Raises:
        ValueError: if there is nothing in it, or what the format forbids; names the line and the way out.
    """
    if not text.strip():
        raise ValueError("no labels in the file; is it the right one?")
    label_format = label_format or _detect(text)
    if label_format not in FORMATS:
        raise ValueError(f"unknown label format {label_format!r}, choose one of {', '.join(FORMATS)}")
    labels = FORMATS[label_format](text)
    if not labels.names:
        raise ValueError("no labels in the file; is it the right one?")
    for row, name in enumerate(labels.names):
        if not name:
            raise ValueError(f"{labels.at(row)}the name of the video is empty; write or remove it")
    return labels


def _detect(text: str) -> str:
    """Tell the format by the first character or the first line."""
    if text.lstrip().startswith(("{", "[")):
        return "json"
    first = text.lstrip().splitlines()[0]
    fields = [value.strip(' "') for value in first.split(",")]
    if "video" in fields or "mos" in fields:
        return "lsvq" if "name" in fields and "video" not in fields else "csv"
    if len(first.rsplit(",", 3)) == 4:
        return "fastvqa"
    raise ValueError(
        f"unknown label format, line 1 is {first[:80]!r}; write a CSV file with the header video,mos "
        f"or name the format ({', '.join(FORMATS)})"
    )


def read_fastvqa(text: str) -> Labels:
    """Read `path, duration, fps, MOS` lines without a header (FAST-VQA); only path and MOS are kept."""
    lines = [(place, line.rsplit(",", 3)) for place, line in enumerate(text.split("\n"), 1) if line.strip()]
    for place, fields in lines:
        if len(fields) != 4:
            raise ValueError(
                f"line {place}: {len(fields)} fields instead of path, duration, fps, MOS; correct it"
            )
    names = [fields[0].strip() for _, fields in lines]
    return Labels(names, [fields[3].strip() for _, fields in lines], [place for place, _ in lines])


def read_json(text: str) -> Labels:
    """Read `{"annotations": [{"image_id", "ann_type": "score", "score": "67.75"}]}` (published test sets)."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: no valid JSON ({error.msg}); correct it") from error
    rows = content.get("annotations") if isinstance(content, Mapping) else None
    if not isinstance(rows, list):
        raise ValueError('line 1: no list "annotations" in the JSON; write {"annotations": [...]}')
    for place, row in enumerate(rows, 1):
        if not isinstance(row, Mapping) or not {"image_id", "score"} <= row.keys():
            raise ValueError(f'annotation {place}: needs "image_id" and "score"; correct it')
        if row.get("ann_type", "score") != "score":
            raise ValueError(f"annotation {place}: ann_type is {row['ann_type']!r}, not 'score'; remove it")
    names, mos = [str(row["image_id"]) for row in rows], [str(row["score"]) for row in rows]
    return Labels(names, mos, list(range(1, len(rows) + 1)), unit="annotation")


def read_csv(text: str) -> Labels:
    """Read a CSV file with a header: `video`, `mos`, optionally `dataset` and any other columns."""
    return _read_table(text, "video")


def read_lsvq(text: str) -> Labels:
    """Read LSVQ's own CSV file: `name` (".mp4" may be left out), `mos`, `is_test` and more."""
    return _read_table(text, "name", suffix=".mp4")


def _read_table(text: str, name: str, suffix: str = "") -> Labels:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        lines = [(reader.line_num, [value.strip() for value in line]) for line in reader if any(line)]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: no valid CSV ({error}); correct it") from error
    header = lines[0][1] if lines else [""]
    if len(set(header)) < len(header):
        raise ValueError(f"line 1: two columns share a name in {', '.join(header)}; rename one")
    for column in (name, "mos"):
        if column not in header:
            raise ValueError(
                f"line 1: no column {column!r} among {', '.join(header)}; rename the one you mean"
            )
    for place, line in lines:
        if len(line) != len(header):
            raise ValueError(
                f"line {place}: {len(line)} fields under {len(header)} columns; quote or correct it"
            )
    values = zip(*(line for _, line in lines[1:]), strict=True) if lines[1:] else [()] * len(header)
    columns = {column: list(entries) for column, entries in zip(header, values, strict=True)}
    places = [place for place, _ in lines[1:]]
    return Labels(columns.pop(name), columns.pop("mos"), places, columns, suffix=suffix)


FORMATS: dict[str, Callable[[str], Labels]] = {
    "csv": read_csv,
    "lsvq": read_lsvq,
    "fastvqa": read_fastvqa,
    "json": read_json,
}
