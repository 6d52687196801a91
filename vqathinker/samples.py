"""One record for everything that is trained on, asked or judged, and the files of such records.

A file is JSON Lines, an object for each sample. Needs nothing but the standard library.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vqathinker.atomic import whole_file

SCORE = "score"  # the task of a sample whose response is a number
TASKS = (SCORE, "recognition", "description", "question", "pair")
VIDEO = "video"
IMAGE = "image"
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".jp2", ".png", ".tif", ".tiff", ".webp"})
NUM_LEVELS = 5
MOST_MEDIA = 2
ROUNDING = 1e-3  # by which the sum of written probabilities may differ from 1


@dataclass(frozen=True)
class Media:
    """A file.

    Attributes:
        path: as written; a loader says which folder it starts from.
        kind: "video" or "image"; by the suffix if omitted.
    """

    path: str
    kind: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("a medium needs a path")
        if not self.kind:
            suffix = os.path.splitext(self.path)[1].lower()
            object.__setattr__(self, "kind", IMAGE if suffix in IMAGE_SUFFIXES else VIDEO)
        if self.kind not in (VIDEO, IMAGE):
            raise ValueError(f"the medium {self.path} is of kind {self.kind!r}: expected {VIDEO} or {IMAGE}")


@dataclass(frozen=True)
class Sample:
    """What is asked about one medium or two, and what is known of the answer.

    Attributes:
        id: unique with `dataset`; groups, twins, journals and results go by both, never by the medium.
        dataset: name of the data set.
        media: one; two for a pair.
        task: one of `TASKS`, or a name of one's own.
        question: what is asked; None for the checkpoint's own question, "" for none at all.
        answer: the text to learn, or the reference of a judge.
        target: the mean opinion score on the prompt's scale.
        spread: its standard deviation.
        levels: probabilities of the five levels, best first.
        preference: of a pair: 1, 0.5 or 0 for a first one that is better, alike or worse.
        options: the answers to choose from.
        correct: which of them is right, from 0.
        columns: everything else.

    Raises:
        ValueError: if the parts contradict one another.
    """

    id: str
    dataset: str
    media: tuple[Media, ...]
    task: str = SCORE
    question: str | None = None
    answer: str | None = None
    target: float | None = None
    spread: float | None = None
    levels: tuple[float, ...] | None = None
    preference: float | None = None
    options: tuple[str, ...] = ()
    correct: int | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id or not self.task:
            raise ValueError("a sample needs an id and a task")
        if not 1 <= len(self.media) <= MOST_MEDIA:
            raise ValueError(f"{len(self.media)} media: a sample has one, or two for a pair")
        for name in ("target", "spread"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} is {value}: leave it out where it is not known")
        if self.levels is not None and not _is_distribution(self.levels):
            raise ValueError(f"levels {self.levels}: expected five probabilities, the best level's first")
        if self.preference is not None and (len(self.media) < MOST_MEDIA or not 0 <= self.preference <= 1):
            raise ValueError(f"preference {self.preference}: expected 0 to 1, and two media")
        if self.correct is not None and not 0 <= self.correct < len(self.options):
            raise ValueError(f"correct {self.correct}: there are {len(self.options)} options")

    @property
    def key(self) -> tuple[str, str]:
        """What names it: data set and id."""
        return self.dataset, self.id

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, dataset: str = "") -> Sample:
        """Build a sample from an object of a file; unknown keys become columns.

        Args:
            values: the object; `media` holds paths or objects with `path` and `kind`, or is one of them.
            dataset: name of its data set where it tells none.

        Raises:
            ValueError: for an entry that cannot be.
        """
        known = {f.name for f in fields(cls)} - {"columns"}
        given = {name: value for name, value in values.items() if name in known and value is not None}
        columns = {name: value for name, value in values.items() if name not in known}
        if "media" not in given:
            raise ValueError("no media: expected the path of a file, or a list of one or two")
        media = given["media"] if isinstance(given["media"], list) else [given["media"]]
        given["media"] = tuple(_medium(item) for item in media)
        given["id"] = str(given["id"]) if "id" in given else ""
        given["dataset"] = str(given.get("dataset", dataset))
        for name, kind in _KINDS.items():
            if name in given:
                given[name] = _as(kind, name, given[name])
        return cls(**given, columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """The object of a file: what is not said is left out, and so is a kind that the suffix tells."""
        values: dict[str, Any] = {"id": self.id, "dataset": self.dataset}
        values["media"] = [
            medium.path if medium == Media(medium.path) else {"path": medium.path, "kind": medium.kind}
            for medium in self.media
        ]
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name not in {"id", "dataset", "media", "columns"} and value not in (None, ()):
                values[f.name] = list(value) if isinstance(value, tuple) else value
        if clash := values.keys() & self.columns.keys():
            raise ValueError(f"the column {min(clash)!r} has the name of an attribute; rename it")
        return values | dict(self.columns)


_KINDS: dict[str, type] = {
    "task": str, "question": str, "answer": str, "target": float, "spread": float, "levels": float,
    "preference": float, "options": str, "correct": int,
}  # fmt: skip
_LISTS = ("levels", "options")


def _as(kind: type, name: str, value: Any) -> Any:  # noqa: ANN401  what a file may hold
    """A value of an entry, or of each of its items."""
    if name in _LISTS:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} is {value!r}: expected a list")
        return tuple(_as(kind, "", item) for item in value)
    wanted = (int, float) if kind is float else kind
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise ValueError(f"{name or 'an item'} is {value!r}: expected {kind.__name__}")
    return kind(value)


def _medium(item: Any) -> Media:  # noqa: ANN401
    if isinstance(item, str):
        return Media(item)
    if isinstance(item, Mapping) and isinstance(item.get("path"), str) and set(item) <= {"path", "kind"}:
        return Media(**item)
    raise ValueError(f"the medium {item!r} is neither a path nor an object with path and kind")


def _is_distribution(values: Sequence[float]) -> bool:
    return (
        len(values) == NUM_LEVELS
        and all(value >= 0 for value in values)
        and abs(math.fsum(values) - 1) <= ROUNDING
    )


def read_samples(path: str | os.PathLike[str]) -> list[Sample]:
    """Read the samples of a file; one that tells no data set gets the file's stem.

    Files of other projects are read too, see `published`.

    Raises:
        ValueError: naming the line, if it holds no sample or one that was there before.
        OSError: if the file cannot be read.
    """
    from vqathinker.published import parse_published  # which needs this module

    path = Path(path)
    text = path.read_text(encoding="utf-8-sig")
    try:
        published = None if holds_samples(text) else parse_published(text, dataset=path.stem)
        return list(parse_samples(text.split("\n"), dataset=path.stem)) if published is None else published
    except ValueError as error:
        is_json = text.lstrip().startswith(("{", "["))
        hint = "" if is_json else "; label files are read by vqathinker.data.dataset.load_labels"
        raise ValueError(f"{path}, {error}{hint}") from error


def holds_samples(text: str) -> bool:
    """Whether the text of a file is that of samples: JSON Lines whose first object names media.

    >>> holds_samples('{"id": "a", "media": "a.mp4"}'), holds_samples('{"video": "a.mp4", "mos": 3}')
    (True, False)
    """
    first = text.lstrip().partition("\n")[0]
    if not first.startswith("{"):
        return False
    try:
        return "media" in json.loads(first)
    except ValueError:  # an object over several lines: a label file in JSON
        return False


def parse_samples(lines: Iterable[str], *, dataset: str) -> Iterator[Sample]:
    """Read samples, an object a line.

    Args:
        lines: of a file.
        dataset: name of the data set of samples that tell none.

    Raises:
        ValueError: naming the line, if it holds no sample or one that was there before.
    """
    seen: dict[tuple[str, str], int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError("no JSON object")
            sample = Sample.from_dict(values, dataset=dataset)
            if sample.key in seen:
                raise ValueError(f"the id {sample.id!r} is in line {seen[sample.key]} already")
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        seen[sample.key] = number
        yield sample


def write_samples(path: str | os.PathLike[str], samples: Iterable[Sample]) -> None:
    """Write samples to a file, which is there in one piece or not at all.

    Raises:
        ValueError: if a column has the name of an attribute.
        OSError: if the file cannot be written.
    """
    with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(map(to_line, samples))


def to_line(sample: Sample) -> str:
    """A sample as a line of a file.

    Raises:
        ValueError: if a column has the name of an attribute.
    """
    return json.dumps(sample.to_dict(), ensure_ascii=False, allow_nan=False) + "\n"
