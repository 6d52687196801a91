"""Results on disk as they come: one JSON object per line, the settings of the run, then a line per video.

Every shard appends to a file of its own and reads those of the others. A kill can cut the last line only; a
line without its end is dropped.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # some network file systems
PATTERN = "journal-*-of-*.jsonl"
# where the checkpoint and the label file lie: what is in them has a digest of its own
INCIDENTAL = ("checkpoint", "labels")
# settings whose names alone do not say what differs
WORDS = {
    "fingerprint": "the model is another one (weights, vocabulary or chat template): its fingerprint",
    "labels_digest": "the labels are others: their digest",
    "size": "the side of the keyframes in pixels",
    "num_frames": "the number of keyframes",
    "think": "whether reasoning is required (--answer-only)",
    "question": "the question (--ask, --describe)",
    "window": "the length of windows (--timeline)",
}


class Lines:
    """A file of JSON lines that one process appends to; a line that a kill has cut is dropped.

    Args:
        path: of the file; its folder is made.

    Raises:
        ValueError: if another process writes this file.
        OSError: if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _lock(self._file, path)
        except (ValueError, OSError):
            os.close(self._file)
            raise
        whole = path.read_bytes()
        os.ftruncate(self._file, whole.rfind(b"\n") + 1)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one line; the operating system has it when this returns.

        Raises:
            OSError: if the disk is full; the next run drops the part of the line that was written.
        """
        text = json.dumps(without_nan(entry), ensure_ascii=False, allow_nan=False) + "\n"
        line = text.encode(errors="backslashreplace")  # a file name that is no text becomes a JSON escape
        while line:
            line = line[os.write(self._file, line) :]

    def close(self) -> None:
        """Let other processes write the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Journal(Lines):
    """The results of one shard, on disk before the next batch is computed.

    Args:
        directory: of the results; made if missing.
        settings: what shaped the results.
        shard: index and number of shards.

    Raises:
        ValueError: if another process writes this file, or results in the directory have other settings.
        OSError: if the file cannot be written.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any], shard: tuple[int, int] = (0, 1)) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        require_same_settings(directory, settings)
        super().__init__(directory / PATTERN.replace("*", "{}").format(*shard))
        if not self.path.stat().st_size:
            self.append({"settings": settings})
        self.settings = settings

    def read_all(self) -> list[dict[str, Any]]:
        """The entries of all shards, each shard's in the order of writing.

        Raises:
            ValueError: if a shard belongs to a run with other settings: two may have started at once.
        """
        require_same_settings(self.path.parent, self.settings)
        return list(read_entries(self.path.parent))


class Kept:
    """The results of a run by their keys: those on disk, of all shards, and those that come.

    A result takes the place of an unreadable file.

    Args:
        journal: of this shard; None keeps nothing on disk.
        key: what an entry is known by.

    Attributes:
        entries: key to entry.
    """

    def __init__(self, journal: Journal | None, key: Callable[[Mapping[str, Any]], Hashable]) -> None:
        self.entries: dict[Any, Mapping[str, Any]] = {}
        self._journal = journal
        self._key = key
        self.read()

    def read(self) -> None:
        """Take up what all shards have written.

        Raises:
            ValueError: if one of them belongs to a run with other settings: two may have started at once.
        """
        if self._journal is not None:
            for entry in self._journal.read_all():
                self._take(entry)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Keep an entry; the operating system has it when this returns.

        Raises:
            OSError: if the disk is full.
        """
        self._take(entry)
        if self._journal is not None:
            self._journal.append(entry)

    def _take(self, entry: Mapping[str, Any]) -> None:
        key = self._key(entry)
        if key not in self:
            self.entries[key] = entry

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is a result that stays."""
        return key in self.entries and not has_failed(self.entries[key])

    def close(self) -> None:
        """Let another process go on."""
        if self._journal is not None:
            self._journal.close()


def _lock(file: int, path: Path) -> None:
    """Reserve an open file for this process.

    Raises:
        ValueError: if another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"another process is writing {path}; wait for it, or stop it") from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


def remove(path: Path) -> None:
    """Remove a journal that nobody writes.

    Raises:
        ValueError: if another process does.
    """
    with path.open("rb") as file:
        _lock(file.fileno(), path)
        path.unlink()


def read(path: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the settings (None if the file was cut before they were written) and the entries of one journal.

    Raises:
        ValueError: if a line other than the last is damaged.
    """
    entries = read_lines(path)
    if not entries:
        return None, []
    if "settings" not in entries[0]:
        raise ValueError(f"{path}: line 1 holds no settings; move the file away")
    return entries[0]["settings"], entries[1:]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file of JSON lines, but for a last one that was cut.

    Raises:
        ValueError: if a line other than the last is damaged.
    """
    entries = []
    for place, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"{path}: line {place} is damaged; remove it, and what it held is made again"
            ) from error
    return entries


def has_failed(entry: Mapping[str, Any]) -> bool:
    """Whether a file of an entry could not be read; such a file is tried again by the next run."""
    return any(result["error"] is not None for result in entry.get("results", [entry]))


def read_entries(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of all journals, each journal's in the order of writing."""
    for path in sorted(directory.glob(PATTERN)):
        yield from read(path)[1]


def left_to_score(
    num_rows: int, batch_size: int, kept: set[int], shard: tuple[int, int] = (0, 1)
) -> list[int]:
    """Return the rows of this shard's batches in which a result is missing.

    >>> left_to_score(7, 2, {0, 1, 2})
    [2, 3, 4, 5, 6]
    >>> left_to_score(7, 2, {0, 1, 2}, shard=(1, 2))
    [2, 3, 6]
    """
    index, num_shards = shard
    rows = range(num_rows)
    batches = [rows[start : start + batch_size] for start in rows[::batch_size]]
    return [row for batch in batches[index::num_shards] if not kept.issuperset(batch) for row in batch]


def require_same_settings(directory: Path, settings: Mapping[str, Any]) -> None:
    """Check that every journal of a directory belongs to a run with these settings.

    Raises:
        ValueError: naming the first setting that differs.
    """
    for path in sorted(directory.glob(PATTERN)):
        written, _ = read(path)
        for name, (there, here) in differences(written or settings, settings).items():
            what = WORDS.get(name, name)
            raise ValueError(
                f"{path} belongs to another run: {what} is {there} there and {here} here; choose another "
                "folder (--out) or replace it (--overwrite)"
            )


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The settings that differ, by their paths, with both values as JSON."""
    one, other = (_flat(without_nan(settings)) for settings in (left, right))
    names = [name for name in {**one, **other} if name not in INCIDENTAL]
    pairs = {name: (one.get(name, "not set"), other.get(name, "not set")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat(value: Any, name: str = "") -> dict[str, str]:  # noqa: ANN401  whatever JSON holds
    """Name every leaf by its path, `sampling.top_k`; a list is a leaf."""
    if not isinstance(value, Mapping):
        return {name: json.dumps(value, ensure_ascii=False)}
    parts = (_flat(part, f"{name}.{key}" if name else str(key)) for key, part in value.items())
    return {key: leaf for part in parts for key, leaf in part.items()}


def without_nan(value: Any) -> Any:  # noqa: ANN401  whatever JSON holds
    """Replace every NaN by None, which JSON can say."""
    if isinstance(value, Mapping):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
