"""What may be scored: paths of files, folders, patterns, and arrays of frames."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vqathinker.media.container import VideoError
from vqathinker.media.search import find_videos, is_pattern

Source = str | os.PathLike[str] | NDArray[np.uint8]
Sources = Source | VideoError | Iterable[Source | VideoError]
SINGLE = (str, os.PathLike, np.ndarray, VideoError)


def find_sources(sources: Sources, *, expand: bool = True) -> list[Source | VideoError]:
    """What is to be scored, one after the other: paths of files, and arrays of frames.

    Args:
        sources: files, folders, patterns and arrays of frames, one or several.
        expand: False takes every path as the name of one file.

    Raises:
        TypeError: if a source is none of these.
    """
    are_several = isinstance(sources, Iterable) and not isinstance(sources, SINGLE)
    found: list[Source | VideoError] = []
    for source in sources if are_several else [sources]:  # type: ignore[union-attr]
        if not isinstance(source, SINGLE):
            raise TypeError(
                f"a {type(source).__name__} is no video: give paths, or uint8 arrays (T, H, W, 3)"
            )
        if not isinstance(source, str | os.PathLike):
            found.append(source)
        elif expand:
            found += find_videos([os.fspath(source)])
        else:
            found.append(os.fspath(source))
    return found


def is_single(source: Source | Sequence[Source]) -> bool:
    """Whether a source is one video: an array, or the name of one file, whether there is one or not."""
    if isinstance(source, np.ndarray):
        return True
    if not isinstance(source, str | os.PathLike):
        return False
    path = os.fspath(source)
    return not os.path.isdir(path) and not is_pattern(path)
