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
from collections.abc import Hashable, Iterator, Mapping
from contextlib import ExitStack
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
    "digest": "what it is built from (samples, or the content of media)",
    "labels_digest": "the labels are others: their digest",
    "size": "the side of the keyframes in pixels",
    "num_frames": "the number of keyframes",
    "think": "whether reasoning is required (--answer-only)",
    "question": "the question (--ask, --describe)",
    "batch_size": "the number answered at a time, on which samples depend (--batch-size)",
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
        self._file = _open_locked(path)
        self._drop_cut_line()

    def _drop_cut_line(self) -> None:
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            whole = os.pread(self._file, size, 0)
            os.ftruncate(self._file, whole.rfind(b"\n") + 1)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one line; the operating system has it when this returns.

        Raises:
            OSError: if the disk is full; nothing of the line stays.
        """
        text = json.dumps(without_nan(entry), ensure_ascii=False, allow_nan=False) + "\n"
        line = text.encode(errors="backslashreplace")  # a file name that is no text becomes a JSON escape
        size = os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError:
            os.ftruncate(self._file, size)  # the next line would be glued to half a one
            raise

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
        self.settings = settings
        require_same_settings(directory, settings)
        super().__init__(directory / PATTERN.replace("*", "{}").format(*shard))
        if not self.path.stat().st_size:
            try:
                self.append({"settings": settings})
            except OSError:
                self.close()
                raise

    def read_all(self) -> Iterator[dict[str, Any]]:
        """Yield the entries of all shards, each shard's in the order of writing.

        Raises:
            ValueError: if a shard belongs to a run with other settings: two may have started at once.
        """
        for path in sorted(self.path.parent.glob(PATTERN)):
            written, entries = read(path)
            _compare(path, written or self.settings, self.settings)
            yield from entries


class Kept:
    """The results of a run by their keys: those on disk, of all shards, or in memory where nothing is kept.

    A result takes the place of an unreadable file.

    Args:
        journal: of this shard; None keeps nothing on disk.

    Attributes:
        entries: key to entry, as JSON has it: None for NaN, lists for tuples.
    """

    def __init__(self, journal: Journal | None) -> None:
        self.entries: dict[Any, Mapping[str, Any]] = {}
        self._journal = journal
        try:
            self.read()
        except (ValueError, OSError):  # whoever tries again is not to find it taken
            self.close()
            raise

    def key(self, entry: Mapping[str, Any]) -> Hashable:
        """What an entry is known by."""
        return entry["row"]  # type: ignore[no-any-return]

    def has_failed(self, entry: Mapping[str, Any]) -> bool:
        """Whether it says that a file cannot be read, which the next run tries again."""
        return entry["error"] is not None

    def read(self) -> None:
        """Take up anew what all shards have written; each of them comes to the same.

        Raises:
            ValueError: if one of them belongs to a run with other settings.
        """
        if self._journal is not None:
            self.entries = {}
            for entry in self._journal.read_all():
                self._take(entry)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Keep an entry; the operating system has it when this returns.

        Raises:
            OSError: if the disk is full.
        """
        if self._journal is not None:
            self._journal.append(entry)
        self._take(without_nan(entry))

    def _take(self, entry: Mapping[str, Any]) -> None:
        key = self.key(entry)
        if key not in self:
            self.entries[key] = entry

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is a result that stays."""
        return key in self.entries and not self.has_failed(self.entries[key])

    def close(self) -> None:
        """Let another process write; what there is can still be read."""
        if self._journal is not None:
            self._journal.close()


class KeptRows(Kept):
    """Results by row and by what the file was that they are of: of another one there is none yet."""

    def key(self, entry: Mapping[str, Any]) -> Hashable:
        """The row, and the fingerprint of its file or of its two."""
        file = entry.get("file")
        return entry["row"], tuple(file) if isinstance(file, list) else file


def _open_locked(path: Path) -> int:
    """Open a file for appending that this process alone writes.

    Raises:
        ValueError: if another process has it.
        OSError: if it cannot be opened.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _lock(file, path)
            if _is_at(file, path):
                return file
        except (ValueError, OSError):
            os.close(file)
            raise
        os.close(file)  # it was removed between the two steps


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one that a path names now."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


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


def remove_all(directory: Path) -> None:
    """Remove the journals of a directory, all or none.

    Raises:
        ValueError: if another process writes one of them.
    """
    paths = sorted(directory.glob(PATTERN))
    with ExitStack() as opened:
        for path in paths:
            _lock(opened.enter_context(path.open("r+b")).fileno(), path)
        for path in paths:
            path.unlink()


def read(path: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the settings (None if the file was cut before they were written) and the entries of one journal.

    Raises:
        ValueError: if a line other than the last is damaged.
    """
    entries = read_lines(path)
    if not entries:
        return None, []
    return _settings_in(entries[0], path), entries[1:]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file of JSON lines, but for a last one that was cut.

    Raises:
        ValueError: if a line other than the last is damaged.
    """
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_parse(line, path, place) for place, line in enumerate(lines, 1)]


def _parse(line: bytes, path: Path, place: int) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{path}: line {place} is damaged; remove it, and what it held is made again"
        ) from error
    return entry


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
    batches = [range(start, min(start + batch_size, num_rows)) for start in range(0, num_rows, batch_size)]
    return [row for batch in batches[index::num_shards] if not kept.issuperset(batch) for row in batch]


def require_same_settings(directory: Path, settings: Mapping[str, Any]) -> None:
    """Check that every journal of a directory belongs to a run with these settings.

    Raises:
        ValueError: naming the first setting that differs.
    """
    for path in sorted(directory.glob(PATTERN)):
        _compare(path, _settings_of(path) or settings, settings)


def _settings_of(path: Path) -> dict[str, Any] | None:
    """The settings in a journal's first line, as `read` returns them."""
    with path.open("rb") as file:
        line = file.readline()
    return _settings_in(_parse(line, path, 1), path) if line.endswith(b"\n") else None


def _settings_in(entry: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if "settings" not in entry:
        raise ValueError(f"{path}: line 1 holds no settings; move the file away")
    settings: dict[str, Any] = entry["settings"]
    return settings


def _compare(path: Path, written: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for name, (there, here) in differences(written, settings).items():
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
