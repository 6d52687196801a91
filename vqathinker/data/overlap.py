"""Videos that two sets share: one file under two names, or two files with one content."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vqathinker.data.label_rows import files_of

if TYPE_CHECKING:
    from datasets import Dataset

FINGERPRINT_BYTES = 64 * 1024
NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Overlap:
    """What the rows of one set share with those of another.

    Attributes:
        num_videos: rows of the set that was looked through.
        same_file: its videos whose file the other set names too, after links are followed.
        same_content: its videos whose file has the content of another file of the other set, and the name of
            that one.
    """

    num_videos: int
    same_file: Sequence[str] = ()
    same_content: Sequence[tuple[str, str]] = field(default_factory=tuple)

    def __len__(self) -> int:
        return len(self.same_file) + len(self.same_content)

    def describe(self) -> str:
        """Say in one sentence how many are shared, with examples."""
        copies = [f"{name} (a copy of {other})" for name, other in self.same_content]
        names = [*self.same_file, *copies]
        shown = ", ".join(names[:NUM_EXAMPLES]) + (", ..." if len(names) > NUM_EXAMPLES else "")
        return f"{len(self)} of {self.num_videos} validation videos are training videos too: {shown}"


def find_overlap(rows: Dataset, others: Dataset) -> Overlap:
    """Look for the videos of one set in another.

    Args:
        rows: those of `load_labels` that are looked through.
        others: those that they are compared with. Files that are not there are compared by their path.
    """
    names = {os.path.realpath(path): os.path.basename(path) for path in files_of(others)}
    names |= dict(zip(map(os.path.realpath, others["path"]), others["video_id"], strict=True))
    same_file = []
    left: dict[str, list[str]] = {}
    for path, name in zip(rows["path"], rows["video_id"], strict=True):
        real = os.path.realpath(path)
        if real in names:
            same_file.append(name)
        else:
            left.setdefault(real, []).append(name)
    same_content = []
    # only a file of the size of one that is looked for can be its original
    sizes = set(map(_size, left))
    for paths in same_contents([*filter(lambda path: _size(path) in sizes, names), *left]):
        original = next((names[path] for path in paths if path in names), None)
        if original is not None:
            same_content += [(name, original) for path in paths for name in left.get(path, ())]
    return Overlap(rows.num_rows, same_file, same_content)


def same_contents(paths: Iterable[str]) -> list[list[str]]:
    """The files of each content that several have; those that are not there or empty have none.

    Only files of one size are opened, and only those with one head and tail are read.
    """
    groups = [[path for path in paths if _size(path)]]
    for known_by in (_size, fingerprint, _digest):
        groups = [part for group in groups for part in _groups(group, known_by)]
    return groups


def fingerprint(path: str | os.PathLike[str]) -> str:
    """A file's size and a digest of its head and tail: of two videos they are hardly ever the same.

    Raises:
        OSError: if it cannot be read.
    """
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        head = file.read(FINGERPRINT_BYTES)
        file.seek(max(0, size - FINGERPRINT_BYTES))
        return f"{size}-{hashlib.sha256(head + file.read()).hexdigest()[:16]}"


def fingerprints(paths: Iterable[str]) -> list[str | None]:
    """Those of several files, None of one that cannot be read."""
    found: dict[str, str | None] = {}
    names = list(paths)
    for name in dict.fromkeys(names):
        try:
            found[name] = fingerprint(name)
        except OSError:  # said when it is decoded
            found[name] = None
    return [found[name] for name in names]


def _size(path: str) -> int:
    """In bytes; 0 of what is not there."""
    return os.path.getsize(path) if os.path.isfile(path) else 0


def _digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _groups(paths: Iterable[str], known_by: Callable[[str], Hashable]) -> list[list[str]]:
    """The files that are known by the same, for each that several are known by."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for path in paths:
        groups[known_by(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]
