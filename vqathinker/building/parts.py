"""Samples of a stage on disk, in parts that are there whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker.atomic import rewrite_whole
from vqathinker.instructions import Built
from vqathinker.samples import Sample, to_line

PART_NAME = "part-{:06d}.jsonl"
REJECTED_NAME = "rejected-{:06d}.jsonl"
PARTS = "part-*.jsonl"
REJECTED = "rejected-*.jsonl"
WHOLE_FILE = "whole.json"  # of a stage that has all its parts
SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class Parts:
    """The folder of a stage.

    Attributes:
        folder: with a file of samples and one of rejections for each part.
    """

    folder: Path

    def write(
        self,
        number: int,
        samples: Iterable[Sample],
        rejected: Iterable[dict[str, Any]] = (),
        source: str = "",
    ) -> None:
        """Write a part; its samples come last, and say that it is done.

        Args:
            number: of the part.
            samples: of it.
            rejected: what was rejected, see `rejections`.
            source: digest of the part that it was made of.

        Raises:
            OSError: if it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # the first line says what the part was made of, so that it is made again when that changes
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in ({"source": source}, *rejected)]
        rewrite_whole(self.folder / REJECTED_NAME.format(number), "".join(lines))
        rewrite_whole(self.folder / PART_NAME.format(number), "".join(map(to_line, samples)))

    def is_done(self, number: int, source: str) -> bool:
        """Whether a part was made of this source, and nothing in it is worth another try."""
        if not (self.folder / PART_NAME.format(number)).is_file():
            return False
        made_of, *rejected = self._read(REJECTED_NAME.format(number))
        return made_of["source"] == source and not any(entry["passes"] for entry in rejected)

    def digests(self) -> list[str]:
        """What tells whether each part has changed."""
        return [_digest_of(path) for path in self.files()]

    def digest(self, number: int) -> str:
        """As `digests`, of one part."""
        return _digest_of(self.folder / PART_NAME.format(number))

    def sizes(self) -> list[int]:
        """The number of samples of each part."""
        return [_num_lines(path) for path in self.files()]

    def read(self, number: int) -> list[Sample]:
        """The samples of a part."""
        return [Sample.from_dict(entry) for entry in self._read(PART_NAME.format(number))]

    def files(self) -> list[Path]:
        """The files of samples, in order."""
        return sorted(self.folder.glob(PARTS))

    def samples(self) -> Iterator[Sample]:
        """All samples, in order, read as they are asked for."""
        for path in self.files():
            with path.open(encoding="utf-8") as file:
                for line in file:
                    yield Sample.from_dict(json.loads(line))

    def rejected(self) -> Counter[str]:
        """How often each reason is given."""
        counts: Counter[str] = Counter()
        for path in sorted(self.folder.glob(REJECTED)):
            counts.update(entry["reason"] for entry in self._read(path.name)[1:])
        return counts

    def index(self) -> Index:
        """Where each sample stands."""
        places = []
        files = self.files()
        for number, path in enumerate(files):
            offset = 0
            with path.open("rb") as file:
                for line in file:
                    places.append((number, offset))
                    offset += len(line)
        return Index(files, np.array(places, dtype=np.int64).reshape(-1, 2))

    def _read(self, name: str) -> list[dict[str, Any]]:
        with (self.folder / name).open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]


@dataclass(frozen=True)
class Index:
    """The places of samples, so that they are read in any order without being held.

    Attributes:
        files: of samples.
        places: (N, 2) number of the file, and where in it the sample begins.
    """

    files: Sequence[Path]
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def read(self, rows: Iterable[int]) -> Iterator[Sample]:
        """The samples of some rows, in their order."""
        for row in rows:
            number, offset = self.places[row].tolist()
            with self.files[number].open("rb") as file:  # there may be more files than can be open
                file.seek(offset)
                yield Sample.from_dict(json.loads(file.readline()))


def rejections(sample: Sample, built: Built) -> list[dict[str, Any]]:
    """What was rejected of a sample, as lines."""
    return [
        {
            "dataset": sample.dataset,
            "id": sample.id,
            "reason": rejection.reason,
            "detail": rejection.detail,
            "passes": rejection.passes,
        }
        for rejection in built.rejections
    ]


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _num_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
