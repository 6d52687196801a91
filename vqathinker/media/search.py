"""Files, folders and patterns, as the video files that are meant; what is left out is said."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from vqathinker.media.container import VideoError
from vqathinker.media.names import RAW_HINT, is_image_name, is_raw, is_video_name, missing_reason, stem

logger = logging.getLogger(__name__)


def find_videos(paths: Iterable[str], *, with_images: bool = False) -> list[str | VideoError]:
    """Replace folders and patterns by the video files in them, in the order of their names.

    Args:
        paths: files, which are kept whatever they are; folders, searched to any depth for files with a
            video's suffix; patterns with `*`, `?`, `[` or `**`.
        with_images: whether folders are searched for pictures too.

    Returns:
        Paths, and an error for everything that was meant and is not there to be read: a folder or pattern
        without a video, a link whose target is gone, raw frames, a folder that may not be opened. What else
        is left out of a folder is logged in one line.
    """
    found: list[str | VideoError] = []
    for path in paths:
        if is_pattern(path):
            found += _match(path)
        elif os.path.isdir(path):
            found += _search(path, with_images=with_images)
        else:
            found.append(_checked(path))
    return found


def is_pattern(path: str) -> bool:
    """Whether a path stands for the files that match it: it has signs of one, and nothing has its name."""
    return glob.has_magic(path) and not os.path.lexists(path)


@dataclass
class _Folder:
    """What a search came across."""

    videos: dict[str, str | VideoError] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def describe(self) -> str:
        """Count what was left out, the most frequent kind first."""
        ordered = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{number} {kind}" for kind, number in ordered)
        return f"{self.left_out.total()} left out that are no videos by their names: {kinds}"


def _search(folder: str, *, with_images: bool) -> list[str | VideoError]:
    """The video files in a folder and all below it."""
    found = _Folder()

    def is_wanted(name: str) -> bool:
        return is_video_name(name) or (with_images and is_image_name(name))

    def not_opened(error: OSError) -> None:
        path = os.fspath(error.filename)
        found.videos[path] = VideoError(path, f"the folder cannot be searched ({error.strerror})")

    for parent, folders, names in os.walk(folder, onerror=not_opened):
        linked = sum(os.path.islink(os.path.join(parent, name)) for name in folders)
        found.left_out["linked folders (name them)"] += linked
        wrapped = {stem(name) for name in names if is_video_name(name)}
        for name in names:
            path = os.path.join(parent, name)
            # hidden copies of a name are what a Mac leaves in archives
            if name.startswith("."):
                if is_wanted(name):
                    found.left_out["hidden"] += 1
            elif is_wanted(name) or (is_raw(name) and stem(name) not in wrapped):
                found.videos[path] = _checked(path)
            else:
                found.left_out[os.path.splitext(name)[1].lower() or "without suffix"] += 1
    found.left_out = +found.left_out
    if not found.videos:
        more = f"; {found.describe()}" if found.left_out else ""
        return [VideoError(folder, f"the folder holds no video files{more}")]
    if found.left_out:
        logger.warning("%s: %s", folder, found.describe())
    return [found.videos[path] for path in sorted(found.videos)]


def _match(pattern: str) -> list[str | VideoError]:
    """The files that a pattern matches; folders among them are said to be left out."""
    names = sorted(glob.glob(pattern, recursive=True))
    files = [name for name in names if not os.path.isdir(name)]
    if not files:
        folders = f", {len(names)} folders do: name one, or add /*" if names else ""
        return [VideoError(pattern, f"no file matches{folders}")]
    if len(files) < len(names) and "**" not in pattern:
        logger.warning("%s: %d folders left out", pattern, len(names) - len(files))
    return [_checked(name) for name in files]


def _checked(path: str) -> str | VideoError:
    """A path, or what is known before it is read: the target of its link is gone, its frames are raw."""
    if os.path.islink(path) and not os.path.exists(path):
        return VideoError(path, missing_reason(path))
    return VideoError(path, RAW_HINT) if is_raw(path) and os.path.isfile(path) else path
