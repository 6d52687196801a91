"""What a video file tells before its frames are used: its stream, its packets, which way up it is.

Refuses to know which frames are wanted; `video` reads those.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

StrPath = str | PathLike[str]
Orientation = tuple[int, int, int, int]

# Containers that store a presentation time per frame; others guess (AVI) or start anywhere (MPEG-TS).
TIMED_CONTAINERS = frozenset({"mp4", "mov", "matroska", "webm"})
# Containers that store their duration but no index that tells a file cut short.
MEASURED_CONTAINERS = frozenset({"matroska", "webm"})
IDENTITY = (1, 0, 0, 1)

av.logging.set_level(av.logging.PANIC)


class VideoError(Exception):
    """A video file that cannot be used, whatever the cause.

    Attributes:
        path: the file.
        reason: what is wrong with it, in words.
    """

    def __init__(self, path: StrPath, reason: str) -> None:
        self.path = fspath(path)
        self.reason = reason
        super().__init__(self.path, reason)  # both arguments, so that it pickles

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Packet(NamedTuple):
    """One encoded frame: its time of presentation and two of its flags."""

    time: int | None
    keyframe: bool
    discard: bool


@dataclass(frozen=True)
class Stream:
    """What the packets of the video stream tell.

    Attributes:
        num_packets: encoded frames that are shown.
        fps: average frames per second, NaN where the file does not say.
        orientation: a, b, c, d of the display matrix, see `video.orient`.
        indexable: whether decord's i-th frame is the i-th frame shown.
        seconds: (num_packets,) when each frame is shown, from 0; NaN where the file does not say.
    """

    num_packets: int
    fps: float
    orientation: Orientation
    indexable: bool
    seconds: NDArray[np.float64]


def probe(path: str) -> Stream:
    """Read the packets, which costs no decoding, and the first frame's display matrix.

    Raises:
        VideoError: if the file is missing, empty, cut short or without video frames.
        av.FFmpegError: if the container or its first frame cannot be read.
    """
    require_content(path)
    with av.open(path) as container:
        stream = video_stream(container, path)
        names = set(container.format.name.split(","))
        first, packets, end = _read_packets(container, stream)
        if first is None:
            raise VideoError(path, "the video stream has no frames")
        num_indexed, duration = len(stream.index_entries), (container.duration or 0) / 1e6
        if len(packets) < num_indexed:
            raise VideoError(path, f"the file ends after {len(packets)} of {num_indexed} frames")
        if names & MEASURED_CONTAINERS and end < 0.9 * duration:
            raise VideoError(path, f"the file ends after {end:.1f} of {duration:.1f} seconds")
        rate = stream.average_rate or stream.guessed_rate
        fps = float(rate) if rate else np.nan
        shown = [packet for packet in packets if not packet.discard] or packets  # an edit list hides some
        seconds = _seconds(shown, stream.time_base, fps)
        indexable = bool(names & TIMED_CONTAINERS) and len(container.streams.video) == 1
    orientation = _orientation(first)
    indexable = indexable and orientation == IDENTITY and _is_ordered(packets)
    return Stream(len(shown), fps, orientation, indexable, seconds)


def _seconds(packets: list[Packet], unit: Fraction | None, fps: float) -> NDArray[np.float64]:
    """(N,) when each frame is shown, from the packets' times or else at the average rate."""
    times = [packet.time for packet in packets if packet.time is not None]
    if unit is None or len(times) < len(packets):
        return np.arange(len(packets)) / fps
    ordered = np.sort(np.array(times, dtype=np.float64)) * float(unit)
    return ordered - ordered[:1]


def _read_packets(
    container: av.container.InputContainer, stream: av.VideoStream
) -> tuple[av.VideoFrame | None, list[Packet], float]:
    """Return the first frame, the video stream's packets and the end of the longest stream in seconds."""
    first, packets, end = None, [], 0.0
    for packet in container.demux():
        if packet.pts is not None and packet.time_base:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream.index != stream.index:
            continue
        if first is None:
            first = next((frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)), None)
        if packet.size:
            packets.append(Packet(packet.pts, packet.is_keyframe, packet.is_discard))
    return first, packets, end


def require_content(path: str) -> None:
    """Tell a missing path, a directory and an empty file apart from a damaged video.

    Raises:
        VideoError: if there is nothing to read.
    """
    file = Path(path)
    if not file.exists():
        raise VideoError(path, "no such file")
    if not file.is_file():
        raise VideoError(path, "not a file")
    if file.stat().st_size == 0:
        raise VideoError(path, "the file is empty")


def video_stream(container: av.container.InputContainer, path: str) -> av.VideoStream:
    """Return the main video stream, cover pictures of music files not counted."""
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
        raise VideoError(path, "the file has no video stream")
    return stream


def _is_ordered(packets: list[Packet]) -> bool:
    """Whether every keyframe is shown as many frames after the start as it is stored: closed groups only."""
    times = [packet.time for packet in packets]
    if None in times or len(set(times)) < len(times) or any(packet.discard for packet in packets):
        return False
    rank = np.argsort(np.argsort(np.array(times, dtype=np.int64)))
    keyframes = np.flatnonzero([packet.keyframe for packet in packets])
    return bool(np.array_equal(rank[keyframes], keyframes))


def _orientation(frame: av.VideoFrame) -> Orientation:
    """Return the rotating part of the display matrix in whole numbers, the identity without one."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return IDENTITY
    a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5] / 2**16  # 3 x 3, 16.16 fixed point
    return round(a), round(b), round(c), round(d)
