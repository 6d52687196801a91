"""The first samples of a build: of each medium of a folder, or each row of a label or sample file."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vqathinker.building.parts import Parts
from vqathinker.building.stages.level import MEDIUM
from vqathinker.data.dataset import LabelReading, chosen_samples, read_labels
from vqathinker.data.labels import decode
from vqathinker.data.overlap import fingerprints
from vqathinker.data.sample_rows import samples_in
from vqathinker.media.container import VideoError
from vqathinker.media.search import find_videos
from vqathinker.samples import Media, Sample, to_line

UNTOLD = frozenset({"prompt", "video_id", "dataset", "path", "target", "std", "mos_low", "mos_high"})
ATTRIBUTES = frozenset(field.name for field in fields(Sample))
AFFINE = "affine"
NUMBERS = ("seconds", "fps", "initial_buffering")  # columns that stages read as numbers
STRUCTURED = ("stalls", "depiction", "dimensions", "opinions")  # and as JSON


@dataclass(frozen=True)
class Listing:
    """What a build starts from.

    Attributes:
        samples: one for each medium or row.
        lost: path to what is wrong, of files that were meant and are not there.
        root: folder that the samples' paths start from.
    """

    samples: list[Sample]
    lost: dict[str, str]
    root: Path = Path()

    @cached_property
    def digest(self) -> str:
        """Tells whether another build started from the same samples and files."""
        # the root may not be there yet
        paths = [os.path.normpath(self.root / one.path) for sample in self.samples for one in sample.media]
        content = "".join(map(to_line, self.samples)) + str(fingerprints(paths))
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def list_media(folder: Path, root: Path) -> Listing:
    """A sample for each video and picture of a folder, whose task and score are not known.

    Args:
        folder: searched to any depth; or one file.
        root: folder that the samples' paths start from.

    Raises:
        ValueError: if there is none.
    """
    found = find_videos([os.fspath(folder)], with_images=True)
    if folder.resolve() == root.resolve():
        raise ValueError(f"{root} is the folder of the media itself: what is built needs another one")
    # what is built within that folder is no source
    has_results = _is_within(os.fspath(root), folder)
    lost = {error.path: error.reason for error in found if isinstance(error, VideoError)}
    paths = []
    for path in found:
        if isinstance(path, VideoError) or (has_results and _is_within(path, root)):
            continue
        if _is_text(path):
            paths.append(path)
        else:
            lost[ascii(path)] = "its name is no text"
    if not paths:
        raise ValueError("; ".join(f"{path}: {reason}" for path, reason in lost.items()))
    start = folder if folder.is_dir() else folder.parent
    names = short_names([os.path.relpath(path, start) for path in paths])
    samples = [
        Sample(name, start.resolve().name, (Media(os.path.relpath(path, root)),), task=MEDIUM)
        for name, path in zip(names, paths, strict=True)
    ]
    return Listing(samples, lost, root)


def _is_within(path: str, folder: Path) -> bool:
    """Whether a file lies in a folder."""
    return Path(path).resolve().is_relative_to(folder.resolve())


def _is_text(name: str) -> bool:
    """Whether a name can be written into a file of samples."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def short_names(paths: Sequence[str]) -> list[str]:
    """Names without suffixes, where that leaves them different.

    >>> short_names(["a.mp4", "b/a.mp4", "c.mov", "c.mp4"])
    ['a', 'b/a', 'c.mov', 'c.mp4']
    """
    short = [os.path.splitext(path)[0] for path in paths]
    number = Counter(short)
    taken = {path for path, name in zip(paths, short, strict=True) if number[name] > 1}
    return [
        path if number[name] > 1 or name in taken else name for path, name in zip(paths, short, strict=True)
    ]


def list_labels(labels: Path, folder: Path, root: Path, reading: LabelReading) -> Listing:
    """A sample for each row of a label file or each sample of a sample file.

    Args:
        labels: the file.
        folder: that names in it start from.
        root: folder that the samples' paths start from.
        reading: how labels are read.

    Raises:
        ValueError: if the file cannot be read as such, or none of its media is there.
        OSError: if there is no such file.
    """
    try:
        found = samples_in(decode(labels.read_bytes()), dataset=labels.stem)
        given = None if found is None else chosen_samples(found, reading)
    except ValueError as error:
        raise ValueError(f"{labels}: {error}") from error
    if given is None:
        samples = list(_rows(labels, folder, root, reading))
    else:
        samples = [
            replace(sample, media=tuple(_from(root, folder, medium) for medium in sample.media))
            for sample in given
        ]
    lost = {
        path: "no such file"
        for sample in samples
        for medium in sample.media
        if not os.path.exists(os.path.normpath(root / (path := medium.path)))
    }
    there = [sample for sample in samples if not any(medium.path in lost for medium in sample.media)]
    if not there:
        raise ValueError(f"none of the {len(samples)} media in {labels} is in {folder}")
    return Listing(there, lost, root)


def write_listing(listing: Listing, parts: Parts, part_size: int) -> None:
    """Write the samples in parts; what is lost stands in the first one's rejections."""
    lost = [
        {"dataset": "", "id": path, "reason": "missing", "detail": reason, "passes": False}
        for path, reason in sorted(listing.lost.items())
    ]
    for number, start in enumerate(range(0, len(listing.samples), part_size)):
        parts.write(number, listing.samples[start : start + part_size], [] if number else lost)


def _rows(labels: Path, folder: Path, root: Path, reading: LabelReading) -> Iterator[Sample]:
    """The rows of a label file as samples of the task `score`."""
    # levels are fifths of the native range, so that all of it has to become the prompt's scale
    columns = read_labels(labels, folder, replace(reading, scale=AFFINE)).columns
    others = [name for name in columns if name not in UNTOLD]
    names = short_names(list(columns["video_id"]))
    for row, name in enumerate(names):
        where = f"{labels}: {name}"
        spread = _number("std", columns["std"][row], where) if "std" in columns else math.nan
        factor = 4 / (columns["mos_high"][row] - columns["mos_low"][row])
        yield Sample(
            id=name,
            dataset=columns["dataset"][row],
            media=(Media(os.path.relpath(columns["path"][row], root)),),
            target=float(columns["target"][row]),
            spread=None if math.isnan(spread) else spread * float(factor),
            columns={_renamed(other): _value(other, columns[other][row], where) for other in others},
        )


def _renamed(name: str) -> str:
    """A column of a table, whose name may be that of a sample's attribute."""
    return f"column_{name}" if name in ATTRIBUTES else name


def _number(column: str, value: Any, where: str) -> float:  # noqa: ANN401  what a table holds
    """The number in a cell, NaN if it is empty."""
    try:
        return math.nan if value in ("", None) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: the column {column!r} holds {value!r}, a number is expected") from None


def _value(column: str, value: Any, where: str) -> Any:  # noqa: ANN401  what a table holds
    """A cell as stages read it."""
    if column in STRUCTURED and isinstance(value, str) and value:
        try:
            return json.loads(value)
        except ValueError:
            return value  # a depiction in prose
    if column in NUMBERS and value not in ("", None):
        return _number(column, value, where)
    return value.item() if hasattr(value, "item") else value


def _from(root: Path, folder: Path, medium: Media) -> Media:
    """A medium whose path starts from the root."""
    return Media(os.path.relpath(folder / medium.path, root), medium.kind)
