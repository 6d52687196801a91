"""What may be scored: paths of files, folders, patterns, and arrays of frames."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqathinker.media.container import VideoError
from vqathinker.media.search import find_videos, is_pattern

Source = str | os.PathLike[str] | NDArray[np.uint8]
Sources = Source | VideoError | Iterable[Source | VideoError]
SINGLE = (str, os.PathLike, np.ndarray, VideoError)


@dataclass(frozen=True)
class Found:
    """What is to be scored, one after the other.

    Attributes:
        sources: paths of files, arrays of frames, and errors for what was found to be none.
        is_single: whether one video was named: an array, or a name of a file, whether there is one or not.
    """

    sources: list[Source | VideoError]
    is_single: bool


def find_sources(sources: Sources, *, expand: bool = True) -> Found:
    """Replace folders and patterns by the files that are meant.

    Args:
        sources: files, folders, patterns and arrays of frames, one or several.
        expand: False takes every path as the name of one file.

    Raises:
        TypeError: if a source is none of these.
    """
    are_several = isinstance(sources, Iterable) and not isinstance(sources, SINGLE)
    found: list[Source | VideoError] = []
    is_many = are_several
    for source in sources if are_several else [sources]:  # type: ignore[union-attr]
        if not isinstance(source, SINGLE):
            raise TypeError(
                f"a {type(source).__name__} is no video: give paths, or uint8 arrays (T, H, W, 3)"
            )
        if not isinstance(source, str | os.PathLike):
            found.append(source)
            continue
        path = os.fspath(source)
        if expand:
            is_many = is_many or os.path.isdir(path) or is_pattern(path)
            found += find_videos([path])
        else:
            found.append(path)
    return Found(found, is_single=not is_many)
