"""Files whose names differ from those in the label file, found by their stem.

Downloads come with other extensions and in other folders than the label files say. A file is taken only where
nothing else can be meant; what remains unclear keeps the name as written and is reported.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "3gp", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ts", "webm", "wmv", "y4m",
    )
)  # fmt: skip
NUM_EXAMPLES = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Matches:
    """Names without a file of their own.

    Attributes:
        by_stem: name as labelled to the path of the one file with its stem.
        ambiguous: name as labelled to the files that it could be; none of them is taken.
    """

    by_stem: Mapping[str, str] = field(default_factory=dict)
    ambiguous: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Say in a line each how many names were matched and how many could not be, with examples."""
        lines = []
        if self.by_stem:
            examples = [f"{name} is {path}" for name, path in self.by_stem.items()]
            lines.append(f"{len(self.by_stem)} videos matched by stem: {_some(examples)}")
        if self.ambiguous:
            examples = [f"{name} could be {' or '.join(paths)}" for name, paths in self.ambiguous.items()]
            lines.append(f"{len(self.ambiguous)} names are ambiguous and have no file: {_some(examples)}")
        return lines

    def log(self) -> None:
        """Log the lines, each once per process."""
        for line in self.lines():
            if line not in _logged:
                _logged.add(line)
                logger.warning("%s", line)


_logged: set[str] = set()


def match(names: Sequence[str], folder: str | os.PathLike[str]) -> Matches:
    """Look for the names without a file among all video files below a folder.

    A file matches a name if both have one stem (the last part without a video's extension) and their folders
    agree as far as both go; if all names lie in one folder, any folder will do. A file that
    carries another name, that two names match, or one of several that match, is not taken.

    Args:
        names: relative to the folder, as the label file gives them.
        folder: searched with all its folders, only if a name has no file.
    """
    own = [name for name in names if os.path.exists(os.path.join(folder, name))]
    missing = sorted(set(names).difference(own))
    if not missing or not os.path.isdir(folder):
        return Matches()
    files = _files_by_stem(folder, taken={os.path.normpath(name) for name in own})
    is_one_folder = len({os.path.dirname(name) for name in names}) == 1
    found = {
        name: [file for file in files[stem(name)] if is_one_folder or _folders_agree(name, file)]
        for name in missing
    }
    wanted = Counter(file for candidates in found.values() for file in candidates)
    clear = {name: files[0] for name, files in found.items() if len(files) == 1 and wanted[files[0]] == 1}
    return Matches(
        by_stem={name: os.path.join(folder, file) for name, file in clear.items()},
        ambiguous={name: files for name, files in found.items() if files and name not in clear},
    )


def stem(name: str) -> str:
    """Return the last part of a name without a video's extension.

    >>> stem("yfcc-batch1/722.mp4"), stem("ia/v.1")
    ('722', 'v.1')
    """
    base, suffix = os.path.splitext(os.path.basename(name))
    return base if suffix.lower() in VIDEO_SUFFIXES else base + suffix


def _files_by_stem(folder: str | os.PathLike[str], taken: set[str]) -> defaultdict[str, list[str]]:
    """The video files below a folder, relative to it, but for those that are taken."""
    files = defaultdict(list)
    for parent, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = os.path.relpath(os.path.join(parent, name), folder)
            if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and path not in taken:
                files[stem(name)].append(path)
    return files


def _folders_agree(name: str, file: str) -> bool:
    """Whether two paths have the same folders, from the innermost out, as far as both have any."""
    parts = (reversed(PurePath(os.path.normpath(path)).parts[:-1]) for path in (name, file))
    return all(one == other for one, other in zip(*parts, strict=False))


def _some(examples: Sequence[str]) -> str:
    return "; ".join(examples[:NUM_EXAMPLES]) + ("; ..." if len(examples) > NUM_EXAMPLES else "")
