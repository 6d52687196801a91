"""A long video as a series of windows, each read as a clip of its own. Knows no model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vqathinker.media.container import VideoError, probe
from vqathinker.media.decoding import frame_times

ROUNDING = 1e-6  # seconds by which a time may be off


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
        Windows of the given length. The last one ends with the video, and stands for one that starts within a
        tenth before it and holds no frame of its own; a video shorter than a window is one window. No frame
        lies in no window, unless the stride is longer than a window.

    Raises:
        ValueError: if length or stride is not positive.

    >>> split(np.arange(10.0), 10.0, 4.0, 4.0)
    [Window(start=0.0, end=4.0, first=0, stop=4), Window(start=4.0, end=8.0, first=4, stop=8), \
Window(start=6.0, end=10.0, first=6, stop=10)]
    """
    check_windows(length, stride)
    last = max(end - length, 0.0)
    starts = [*np.arange(0.0, last - ROUNDING, stride).tolist(), last]
    windows = [_window(seconds, start, min(start + length, end)) for start in starts]
    if len(windows) > 1:
        near = windows[-2]
        behind = windows[-3].stop if len(windows) > 2 else 0
        has_own = max(near.first, behind) < windows[-1].first
        if last - near.start <= min(length, stride) / 10 and not has_own:
            windows.remove(near)
    return windows


def _window(seconds: NDArray[np.float64], start: float, end: float) -> Window:
    """A window with the frames that are shown in it, the one that is there when it starts among them."""
    shown = int(np.searchsorted(seconds, start + ROUNDING, side="right")) - 1
    behind = int(np.searchsorted(seconds, end - ROUNDING))
    return Window(start, end, max(shown, 0), behind)


def find_windows(path: str, *, length: float, stride: float) -> list[Window]:
    """The windows of a video file; the last one's `stop` is the number of frames in it.

    A file whose packets do not tell its frames apart is decoded once, for the time of each.

    Raises:
        VideoError: if the file cannot be read or does not tell when its frames are shown.
        ValueError: if length or stride is not positive.
    """
    stream = probe(path)
    seconds = stream.seconds
    end = stream.end
    if stream.times is None:
        seconds, end = _decoded_seconds(path, stream.fps)
    if not len(seconds) or np.isnan(seconds).any() or np.isnan(end):
        raise VideoError(path, "the file does not tell when its frames are shown")
    return split(seconds, end, length, stride)


def _decoded_seconds(path: str, rate: float) -> tuple[NDArray[np.float64], float]:
    """When each frame that can be decoded is shown, from 0, and the last one ends."""
    times = frame_times(path)
    known = np.array([np.nan if time is None else time for time in times])
    if not (np.diff(known) > 0).all():  # a time is missing or stands still
        known = np.arange(len(times)) / rate
    seconds = known - known[:1]
    return seconds, float(seconds[-1] + 1 / rate) if len(seconds) else np.nan
