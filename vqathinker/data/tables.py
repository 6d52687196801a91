"""Rows and columns of a label file, from CSV in its dialects or JSON, before any column has a meaning."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vqathinker.media.names import has_video_suffix

SEPARATORS = (",", "\t", ";")
NUM_PROBED = 20  # lines that tell the separator
NUM_LISTED = 12  # columns that an error lists
VIDEO_THEN_NUMBERS = re.compile(r"(.*?\S)((?:\s+[-+.\deE]+|\s+nan)+)", re.IGNORECASE)

VIDEO_NAMES = frozenset({
    "video", "videos", "videoname", "videopath", "videofile", "videofilename", "videoid", "vid", "name",
    "names", "file", "files", "filename", "filenames", "filepath", "path", "image", "images", "imagename",
    "imagepath", "imageid", "img", "imgpath", "imgname", "stimulus", "stimuli", "stimulusfile",
    "stimulifile", "clip", "clipname", "flickrid",
})  # fmt: skip
MOS_NAMES = frozenset({
    "mos", "score", "scores", "videoscore", "gtscore", "gtmos", "mosscore", "meanopinionscore",
    "meanscore", "rating", "meanrating", "qualityscore", "qualitymos", "subjectivescore", "subjectivemos",
    "overallmos", "mosoverall", "mosfull", "groundtruth",
})  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Values as written.

    Attributes:
        header: M names of columns, or None if the file names none.
        rows: N lists of M values, text or what JSON holds; None where an entry lacks the column.
        places: N line numbers, or numbers of entries, from 1.
        unit: what `places` counts.
    """

    header: list[str] | None
    rows: list[list[Any]]
    places: list[int]
    unit: str = "line"

    @property
    def num_columns(self) -> int:
        """Columns of the table."""
        if self.header is not None:
            return len(self.header)
        return len(self.rows[0]) if self.rows else 0

    @property
    def where(self) -> str:
        """What is said of the columns' names."""
        if self.header is None:
            return "line 1 is no header"
        return "line 1" if self.unit == "line" else f"the keys of every {self.unit}"

    def name(self, column: int) -> str:
        """Return a column's name, or its number from 1 if it has none."""
        return self.header[column] if self.header is not None else f"column {column + 1}"

    def column(self, column: int) -> list[Any]:
        """Return the N values of a column."""
        return [row[column] for row in self.rows]

    def listing(self) -> str:
        """Return the columns by name, those without names by number and first value."""
        names = [self.name(column) or '""' for column in range(self.num_columns)]
        if self.header is None and self.rows:
            names = [f"{name} ({value})" for name, value in zip(names, self.rows[0], strict=True)]
        return ", ".join(names[:NUM_LISTED]) + (", ..." if len(names) > NUM_LISTED else "")


def plain(name: object) -> str:
    """Return a column's name without capitals, blanks and signs.

    >>> plain("File Names"), plain("gt_score")
    ('filenames', 'gtscore')
    """
    return re.sub(r"[\W_]", "", str(name).lower())


def is_number(value: object) -> bool:
    """Whether a value is a number, or text that Python reads as one.

    >>> is_number("3.2"), is_number("nan"), is_number("a.mp4"), is_number("")
    (True, True, False, False)
    """
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def read_table(text: str) -> Table:
    """Read lines whose fields are separated by commas, tabs or semicolons, with or without a header.

    Of lines without any of these, a video's name and the numbers after it are the fields.

    Raises:
        ValueError: naming the line that cannot be right.
    """
    lines = _blank_separated(text) or _separated(text, _separator(text))
    if not lines:
        return Table([], [], [])
    header = None if _is_data(lines[0][1]) else lines[0][1]
    if header is not None and len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(f"line 1: two columns share a name, {twice!r}, in {', '.join(header)}; rename one")
    num_columns = len(lines[0][1])
    for place, line in lines:
        if len(line) != num_columns:
            raise ValueError(_wrong_length(place, line, num_columns))
    data = lines if header is None else lines[1:]
    return Table(header, [line for _, line in data], [place for place, _ in data])


def _separated(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """The lines that hold something, each with its number, quotes taken off."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        return [(reader.line_num, [value.strip() for value in line]) for line in reader if any(line)]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: no valid CSV ({error}); correct it") from error


def _separator(text: str) -> str:
    """The separator that leaves most fields that are a column's name or a video's."""
    probe = "\n".join(islice((line for line in text.splitlines() if line.strip()), NUM_PROBED))

    def num_known(separator: str) -> int:
        lines = csv.reader(io.StringIO(probe), delimiter=separator, skipinitialspace=True)
        return sum(_is_known(field) or has_video_suffix(field.strip()) for line in lines for field in line)

    found = [separator for separator in SEPARATORS if separator in probe]
    try:
        return max(found or [","], key=num_known)
    except csv.Error:
        return ","  # the whole file is read with it and says which line is at fault


def _blank_separated(text: str) -> list[tuple[int, list[str]]]:
    """Lines of a video's name and numbers apart by blanks; none if one line is anything else."""
    lines = []
    for place, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = VIDEO_THEN_NUMBERS.fullmatch(line.strip())
        if match is None or not has_video_suffix(match[1]) or any(sign in line for sign in SEPARATORS):
            return []
        lines.append((place, [match[1], *match[2].split()]))
    return lines


def _is_known(field: str) -> bool:
    return plain(field) in VIDEO_NAMES | MOS_NAMES


def _is_data(line: Sequence[str]) -> bool:
    """Whether a first line is no header: a number or a video is in it, and no name of a column we know."""
    holds_values = any(is_number(field) or has_video_suffix(field) for field in line)
    return holds_values and not any(map(_is_known, line))


def _wrong_length(place: int, line: Sequence[str], num_columns: int) -> str:
    message = f"line {place}: {len(line)} fields under {num_columns} columns; quote or correct it"
    number = ",".join(line[-2:])
    if len(line) == num_columns + 1 and re.fullmatch(r"[-+]?\d+,\d+", number):
        return f"{message} (a decimal comma? write {number.replace(',', '.')})"
    return message


def read_entries(text: str) -> Table:
    """Read JSON: a list of objects, an object that holds one, videos as keys, or one object a line.

    Raises:
        ValueError: if it is no JSON, or none of these.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return read_json_lines(text)
        raise ValueError(f"line {error.lineno}: no valid JSON ({error.msg}); correct it") from error
    unit = "entry"
    if isinstance(content, Mapping):
        lists = {key: value for key, value in content.items() if _is_list_of_objects(value)}
        if "annotations" in lists or len(lists) == 1:
            key = "annotations" if "annotations" in lists else next(iter(lists))
            content = lists[key]
            unit = "annotation" if key == "annotations" else f"entry of {key}"
        elif any(_is_known(key) and not isinstance(value, Mapping) for key, value in content.items()):
            content = [content]  # a single line of JSON Lines
        else:
            content = _by_video(content)
    if not _is_list_of_objects(content):
        raise ValueError(
            'the JSON is no list of labels; write [{"video": "a.mp4", "mos": 3.2}, ...] or one such object '
            "a line"
        )
    return _table(content, list(range(1, len(content) + 1)), unit)


def read_json_lines(text: str) -> Table:
    """Read one JSON object a line.

    Raises:
        ValueError: naming the line that is none.
    """
    entries = []
    places = []
    for place, line in enumerate(text.split("\n"), 1):  # splitlines would cut at signs that JSON allows
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {place}: no valid JSON ({error.msg}); correct it") from error
        if not isinstance(entry, Mapping):
            raise ValueError(f'line {place}: no JSON object; write {{"video": "a.mp4", "mos": 3.2}}')
        entries.append(entry)
        places.append(place)
    return _table(entries, places, "line")


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value)


def _by_video(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Turn {video: score} or {video: {column: value}} into entries."""
    if content and all(isinstance(value, Mapping) for value in content.values()):
        return [{"video": name, **value} for name, value in content.items()]
    if content and all(map(is_number, content.values())):
        return [{"video": name, "mos": value} for name, value in content.items()]
    raise ValueError(
        f"the JSON object holds {', '.join(list(content)[:NUM_LISTED])} and no list of labels; write "
        '[{"video": "a.mp4", "mos": 3.2}, ...]'
    )


def _table(entries: Sequence[Mapping[str, Any]], places: list[int], unit: str) -> Table:
    header = list(dict.fromkeys(key for entry in entries for key in entry))
    return Table(header, [[entry.get(key) for key in header] for entry in entries], places, unit)
