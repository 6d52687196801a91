"""A long video as a series of windows, each read as a clip of its own. Knows no model."""

from __future__ import annotations

from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from vqathinker.media.container import VideoError, probe


class Window(NamedTuple):
    """A part of a video: its seconds, its first frame and the one after its last."""

    start: float
    end: float
    first: int
    stop: int


def check_windows(length: float, stride: float | None = None) -> None:
    """Raise a ValueError unless a window's length, and the stride if there is one, are positive."""
    if not (length > 0 and (stride is None or stride > 0)):
        every = "" if stride is None else f" every {stride:g} s"
        raise ValueError(f"windows of {length:g} s{every}: both must be positive")


def split(seconds: NDArray[np.float64], end: float, length: float, stride: float) -> list[Window]:
    """Cut a video into windows by the time each frame is shown; a long frame may belong to several.

    Args:
        seconds: (N,) times from which the frames are shown, rising from 0.
        end: when the last frame ends.
        length: of a window in seconds.
        stride: from one window's start to the next.

    Returns:
        Windows of the given length. The last one ends with the video and stands for any that starts within a
        tenth before it; a video shorter than a window is one window.

    Raises:
        ValueError: if length or stride is not positive.

    >>> split(np.arange(10.0), 10.0, 4.0, 4.0)
    [Window(start=0.0, end=4.0, first=0, stop=4), Window(start=4.0, end=8.0, first=4, stop=8), \
Window(start=6.0, end=10.0, first=6, stop=10)]
    """
    check_windows(length, stride)
    last = max(end - length, 0.0)
    starts = [*np.arange(0.0, last - min(length, stride) / 10, stride).tolist(), last]
    windows = []
    for start in starts:
        stop = min(start + length, end)
        shown = int(np.searchsorted(seconds, start + 1e-6, side="right")) - 1  # at the window's start
        behind = int(np.searchsorted(seconds, stop - 1e-6))
        windows.append(Window(start, stop, max(shown, 0), behind))
    return windows


def find_windows(path: str, *, length: float, stride: float) -> list[Window]:
    """The windows of a video file.

    Raises:
        VideoError: if the file cannot be read or does not tell when its frames are shown.
        ValueError: if length or stride is not positive.
    """
    try:
        stream = probe(path)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, f"cannot be decoded ({error.strerror or error})") from error
    if np.isnan(stream.seconds).any() or np.isnan(stream.fps):
        raise VideoError(path, "the file does not tell when its frames are shown")
    times = stream.seconds
    last = times[-1] - times[-2] if len(times) > 1 else 1 / stream.fps  # seconds that the last frame is shown
    return split(times, float(times[-1] + last), length, stride)
