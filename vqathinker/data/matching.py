"""Files whose names differ from those in the label file, found by their stem or despite their spelling.

Downloads come with other extensions and in other folders than the label files say, archives with other
capitals and other forms of accents. A file is taken only where nothing else can be meant; what remains
unclear keeps the name as written and is reported.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePath
from urllib.parse import unquote

from vqathinker.media.names import is_image_name, is_video_name, stem

NUM_EXAMPLES = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Matches:
    """Names without a file of their own.

    Attributes:
        by_stem: name as labelled to the path of the one file with its stem.
        by_spelling: likewise, of the one file whose name differs in capitals, in how accents are composed, in
            backslashes or in %20 for blanks.
        ambiguous: name as labelled to the files that it could be; none of them is taken.
    """

    by_stem: Mapping[str, str] = field(default_factory=dict)
    ambiguous: Mapping[str, Sequence[str]] = field(default_factory=dict)
    by_spelling: Mapping[str, str] = field(default_factory=dict)

    @property
    def found(self) -> Mapping[str, str]:
        """Every name that was matched to the path of its file."""
        return {**self.by_stem, **self.by_spelling}

    def lines(self) -> list[str]:
        """Say in a line each how many names were matched and how many could not be, with examples."""
        lines = []
        if self.by_stem:
            examples = [f"{name} is {path}" for name, path in self.by_stem.items()]
            lines.append(f"{len(self.by_stem)} videos matched by stem: {_some(examples)}")
        if self.by_spelling:
            examples = [f"{name} is {path}" for name, path in self.by_spelling.items()]
            lines.append(f"{len(self.by_spelling)} videos matched despite their spelling: {_some(examples)}")
        if self.ambiguous:
            examples = [f"{name} could be {' or '.join(paths)}" for name, paths in self.ambiguous.items()]
            lines.append(f"{len(self.ambiguous)} names are ambiguous and have no file: {_some(examples)}")
        return lines

    def log(self) -> None:
        """Log the lines, each once per process."""
        for line in self.lines():
            _warn(line)


@cache
def _warn(line: str) -> None:
    logger.warning("%s", line)


def match(names: Sequence[str], folder: str | os.PathLike[str]) -> Matches:
    """Look for the names without a file among all video and picture files below a folder.

    A file matches a name if both have one stem (the last part without a video's extension) and their folders
    agree as far as both go; if all names lie in one folder, any folder will do. A file that
    carries another name, that two names match, or one of several that match, is not taken. What
    matches no file so is compared once more, as `simple` spells it, with the files that are left.

    Args:
        names: relative to the folder, as the label file gives them.
        folder: searched with all its folders, only if a name has no file.
    """
    own = [name for name in names if os.path.isfile(os.path.join(folder, name))]
    missing = sorted(set(names).difference(own))
    if not missing or not os.path.isdir(folder):
        return Matches()
    any_folder = len({os.path.dirname(name.replace("\\", "/")) for name in names}) == 1
    taken = {os.path.normpath(name) for name in own}
    files = [file for file in _media_files(folder) if file not in taken]
    by_stem, ambiguous = _pair(missing, files, str, any_folder=any_folder)
    rest = [name for name in missing if name not in by_stem and name not in ambiguous]
    free = set(files).difference(by_stem.values())
    by_spelling, unclear = _pair(rest, sorted(free), simple, any_folder=any_folder)
    return Matches(
        by_stem={name: os.path.join(folder, file) for name, file in by_stem.items()},
        ambiguous=ambiguous | unclear,
        by_spelling={name: os.path.join(folder, file) for name, file in by_spelling.items()},
    )


def _pair(
    names: Sequence[str], files: Sequence[str], spell: Callable[[str], str], *, any_folder: bool
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Pair names with files by the stem as spelled: what is clear, and what each other name could be."""
    with_stem = defaultdict(list)
    for file in files:
        with_stem[stem(spell(file))].append(file)
    found = {
        name: [
            file
            for file in with_stem.get(stem(spell(name)), [])
            if any_folder or folders_agree(spell(name), spell(file))
        ]
        for name in names
    }
    wanted = Counter(file for candidates in found.values() for file in candidates)
    clear = {name: files[0] for name, files in found.items() if len(files) == 1 and wanted[files[0]] == 1}
    return clear, {name: files for name, files in found.items() if files and name not in clear}


def simple(name: str) -> str:
    r"""Return a name with slashes, without capitals, accents composed and %20 for a blank undone.

    >>> simple("Win\\Ka\u0308se%20A.MP4")
    'win/käse a.mp4'
    """
    return unicodedata.normalize("NFC", unquote(name.replace("\\", "/"))).casefold()


def _media_files(folder: str | os.PathLike[str]) -> list[str]:
    """The videos and pictures below a folder, relative to it; a link whose target is gone is none."""
    files = []
    for parent, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = os.path.join(parent, name)
            if (is_video_name(name) or is_image_name(name)) and os.path.exists(path):
                files.append(os.path.relpath(path, folder))
    return files


def folders_agree(name: str, file: str) -> bool:
    """Whether two paths have the same folders, from the innermost out, as far as both have any."""
    parts = (reversed(PurePath(os.path.normpath(path)).parts[:-1]) for path in (name, file))
    return all(one == other for one, other in zip(*parts, strict=False))


def _some(examples: Sequence[str]) -> str:
    return "; ".join(examples[:NUM_EXAMPLES]) + ("; ..." if len(examples) > NUM_EXAMPLES else "")
