"""Videos that two sets share: one file under two names, or two files with one content."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
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
        same_content: its videos whose file equals another file of the other set in size, head and tail,
            and the name of that one.
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
    # only a file of the same size can be a copy, and only such files are opened
    sizes = _by_size(names)
    same_content = []
    for size, paths in _by_size(left).items():
        contents = {fingerprint(path): names[path] for path in sizes.get(size, ())}
        for path in paths if contents else ():
            original = contents.get(fingerprint(path))
            if original is not None:
                same_content += [(name, original) for name in left[path]]
    return Overlap(rows.num_rows, same_file, same_content)


def fingerprint(path: str | os.PathLike[str]) -> tuple[int, bytes]:
    """Return a file's size and the hash of its head and tail."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        head = file.read(FINGERPRINT_BYTES)
        file.seek(max(0, size - FINGERPRINT_BYTES))
        return size, hashlib.sha256(head + file.read()).digest()


def _by_size(paths: Iterable[str]) -> dict[int, list[str]]:
    """Group the files that are there and hold something by their size in bytes."""
    groups: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        if os.path.isfile(path) and (size := os.path.getsize(path)):
            groups[size].append(path)
    return groups
