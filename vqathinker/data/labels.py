"""The formats of label files, each read into the same three lists.

Names, scores and line numbers come out as written; `dataset` checks them.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vqathinker.data.columns import choose
from vqathinker.data.tables import Table, is_number, plain, read_entries, read_json_lines, read_table

EMPTY = "no labels in the file; is it the right one?"
UNKNOWN = -1.0  # FAST-VQA's duration and fps where nobody measured them
# Frames per second that cameras, players and encoders are set to.
NOMINAL_FPS = (
    5,
    6,
    8,
    10,
    12,
    12.5,
    15,
    20,
    24 / 1.001,
    24,
    25,
    30 / 1.001,
    30,
    48,
    50,
    60 / 1.001,
    60,
    90,
    100,
    120,
)
LONGEST = 24 * 3600.0
ROUNDING = 0.5
# Columns with a meaning of their own, in whatever letters a file writes them.
MEANINGFUL = {plain(name): name for name in ("dataset", "split", "is_test", "mos_low", "mos_high")}
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
OTHER_FILES = {
    b"PK\x03\x04": "a zip archive or an Excel sheet; export its table as CSV",
    b"MATLAB": "a MATLAB file; write its names and scores as CSV",
    b"\x89HDF": "an HDF5 or MATLAB file; write its names and scores as CSV",
}


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

    def keep(self, rows: Sequence[int]) -> Labels:
        """Return some of the rows."""

        def take(values: list[Any]) -> list[Any]:
            return [values[row] for row in rows]

        columns = {name: take(values) for name, values in self.columns.items()}
        return Labels(take(self.names), take(self.mos), take(self.places), columns, self.unit, self.suffix)

    def at(self, row: int) -> str:
        """Name the place of a row: "line 3: clips/a.mp4"."""
        return f"{self.unit} {self.places[row]}: {self.names[row]}"


def decode(content: bytes) -> str:
    """Return the text of a label file: UTF-8, or what its byte order mark says.

    Raises:
        ValueError: if it is no text.
    """
    for start, kind in OTHER_FILES.items():
        if content.startswith(start):
            raise ValueError(f"this is {kind}")
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise ValueError(
            f"no {name} text from byte {error.start} on; wrong file, or save it as UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError("zero bytes in the text: is it UTF-16 without a byte order mark? save it as UTF-8")
    return text


def read(
    text: str,
    label_format: str | None = None,
    *,
    video_column: str | None = None,
    mos_column: str | None = None,
) -> Labels:
    """Read the text of a label file in one of the `FORMATS`, detected from the content if None is given.

    Args:
        text: of the whole file.
        label_format: one of `FORMATS`.
        video_column: the column that names the videos, by its name or, from 1, its number.
        mos_column: the column of the MOS, likewise.

    Raises:
        ValueError: if there is nothing in it, or what the format forbids; names the line and the way out.
    """
    if not text.strip():
        raise ValueError(EMPTY)
    label_format = label_format or _detect(text, named=bool(video_column or mos_column))
    if label_format not in FORMATS:
        raise ValueError(f"unknown label format {label_format!r}, choose one of {', '.join(FORMATS)}")
    labels = FORMATS[label_format](text, video_column, mos_column)
    if not labels.names:
        raise ValueError(EMPTY)
    for row, name in enumerate(labels.names):
        if not name:
            raise ValueError(f"{labels.at(row)}the name of the video is empty; write or remove it")
    return labels


def _detect(text: str, *, named: bool) -> str:
    """Tell the format by the first character, or by what the fields of all lines can be."""
    if text.lstrip().startswith(("{", "[")):
        return "json"
    return "fastvqa" if not named and _is_fastvqa(text) else "csv"


def _is_fastvqa(text: str) -> bool:
    """Whether lines of four fields are `path, duration, fps, MOS` and not `path, MOS, spread, votes`.

    Duration and fps are both -1 or plausible, most fps are nominal ones, and some line contradicts votes.
    """
    lines = [line.rsplit(",", 3) for line in text.split("\n") if line.strip()]
    if len(lines[0]) != 4:
        return False
    numbers = [fields[1:] for fields in lines if len(fields) == 4 and all(map(is_number, fields[1:]))]
    # a label that is no number is the reader's to name; a file without any number is another one
    if not numbers or any(fields[1:3] and not all(map(is_number, fields[1:3])) for fields in lines):
        return False
    measured = []
    for duration, fps, mos in ([float(value) for value in fields] for fields in numbers):
        if duration == fps == UNKNOWN:
            continue
        if not (0 < duration <= LONGEST and 1 <= fps <= 1000):
            return False
        measured.append((duration, fps, mos))
    if not measured:
        return True
    nominal = sum(any(abs(fps - rate) <= rate / 1000 for rate in NOMINAL_FPS) for _, fps, _ in measured)
    contradicted = len(measured) < len(numbers) or any(not _could_be_votes(*line) for line in measured)
    return 2 * nominal >= len(measured) and contradicted


def _could_be_votes(mean: float, spread: float, votes: float) -> bool:
    """Whether numbers, perhaps rounded, can be the mean, spread and number of votes from 0 to 100."""
    if not math.isfinite(votes) or votes != int(votes) or votes < 1:
        return False
    if votes == 1:
        return spread == 0
    smallest = max(spread - ROUNDING, 0)
    largest = mean + ROUNDING
    # the widest spread for a mean: votes at both ends of the scale, or all but one at its lower end
    two_ends = largest * max(100 - mean + ROUNDING, 0) * votes / (votes - 1)
    return smallest**2 <= min(two_ends, largest**2 * votes)


def read_fastvqa(text: str, video_column: str | None = None, mos_column: str | None = None) -> Labels:
    """Read `path, duration, fps, MOS` lines without a header (FAST-VQA); only path and MOS are kept."""
    if video_column or mos_column:
        raise ValueError("the columns of format fastvqa are fixed; name columns with format csv instead")
    lines = [(place, line.rsplit(",", 3)) for place, line in enumerate(text.split("\n"), 1) if line.strip()]
    for place, fields in lines:
        if len(fields) != 4:
            raise ValueError(
                f"line {place}: {len(fields)} fields instead of path, duration, fps, MOS; correct it"
            )
    names = [fields[0].strip() for _, fields in lines]
    return Labels(names, [fields[3].strip() for _, fields in lines], [place for place, _ in lines])


def read_csv(text: str, video_column: str | None = None, mos_column: str | None = None) -> Labels:
    """Read fields: `video`, `mos`, optionally `dataset` and any others, or columns by other names."""
    return _labels(read_table(text), video_column, mos_column)


def read_lsvq(text: str, video_column: str | None = None, mos_column: str | None = None) -> Labels:
    """Read LSVQ's own CSV file: `name` (".mp4" may be left out), `mos`, `is_test` and more."""
    return _labels(read_table(text), video_column or "name", mos_column or "mos")


def read_json(text: str, video_column: str | None = None, mos_column: str | None = None) -> Labels:
    """Read a list of objects, `{"annotations": [{"image_id", "score"}]}` among them, or one object a line."""
    return _labels(read_entries(text), video_column, mos_column)


def read_jsonl(text: str, video_column: str | None = None, mos_column: str | None = None) -> Labels:
    """Read one JSON object a line."""
    return _labels(read_json_lines(text), video_column, mos_column)


def _labels(table: Table, video_column: str | None, mos_column: str | None) -> Labels:
    """Take the columns apart by their meaning."""
    if not table.num_columns:
        raise ValueError(EMPTY)
    columns = choose(table, video_column, mos_column)
    names = [_text(value) for value in table.column(columns.video)]
    mos = [_text(value) for value in table.column(columns.mos)]
    others: dict[str, list[Any]] = {}
    for position in range(table.num_columns):
        if position in {columns.video, columns.mos}:
            continue
        name = table.name(position)
        values = [_text(value) for value in table.column(position)]
        name = MEANINGFUL.get(plain(name), name) or f"column {position + 1}"
        if position == columns.spread and all(is_number(value) or not value for value in values):
            name = "std"
            values = [float(value) if value else math.nan for value in values]  # type: ignore[misc]
        elif name == "mos":  # another column was asked for
            name = "mos_in_file"
        if name in others:
            raise ValueError(f"{table.where}: two columns are called {name} but for capitals; rename one")
        others[name] = values
    for kind in others.get("ann_type", []):
        if kind and kind != "score":
            place = others["ann_type"].index(kind)
            raise ValueError(
                f"{table.unit} {table.places[place]}: ann_type is {kind!r}, not 'score'; remove it"
            )
    others.pop("ann_type", None)
    suffix = ".mp4" if plain(table.name(columns.video)) == "name" else ""
    return Labels(names, mos, table.places, others, table.unit, suffix)


def _text(value: object) -> str:
    """A value of JSON or CSV as text; nothing is the empty text."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value).strip()


FORMATS: dict[str, Callable[[str, str | None, str | None], Labels]] = {
    "csv": read_csv,
    "lsvq": read_lsvq,
    "fastvqa": read_fastvqa,
    "json": read_json,
    "jsonl": read_jsonl,
}
