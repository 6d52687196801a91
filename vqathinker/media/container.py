"""What a video file tells before its frames are used: its stream, its packets, which way up it is.

Refuses to know which frames are wanted; `video` reads those.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from vqathinker.media.bitstream import Coding
from vqathinker.media.names import RAW_HINT, is_raw, missing_reason
from vqathinker.media.orientation import IDENTITY, Orientation, orientation_of

StrPath = str | PathLike[str]

# Containers that hold video themselves. What is not here (lists, playlists, stream descriptions, subtitles,
# series of pictures) names other files, which would be opened in its place.
FORMATS = (
    "3g2", "3gp", "apng", "asf", "av1", "avi", "avs2", "avs3", "cavsvideo", "dhav", "dirac", "dnxhd", "dv",
    "evc", "flv", "gif", "gxf", "h261", "h263", "h264", "hevc", "ivf", "live_flv", "m4a", "m4v", "matroska",
    "mj2", "mjpeg", "mov", "mp4", "mpeg", "mpegts", "mpegvideo", "mxf", "nsv", "nut", "obu", "ogg", "pva",
    "rm", "swf", "vc1", "vc1test", "vvc", "webm", "wtv", "yuv4mpegpipe",
)  # fmt: skip
# Containers that store a presentation time per frame; others guess (AVI) or start anywhere (MPEG-TS).
TIMED_CONTAINERS = frozenset({"mp4", "mov", "matroska", "webm"})
# Containers that store their duration but no index that tells a file cut short.
MEASURED_CONTAINERS = frozenset({"matroska", "webm"})

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
    """One encoded frame.

    Attributes:
        time: when it is shown, in the stream's unit.
        duration: for how long.
        keyframe: its flag.
        is_start: whether it is flagged and its own bits agree.
        is_shown: whether a player shows it: neither cut off by an edit list nor an alternate reference.
    """

    time: int | None
    duration: int
    keyframe: bool
    is_start: bool
    is_shown: bool


@dataclass(frozen=True, eq=False)
class Stream:
    """What the packets of the video stream tell.

    Attributes:
        num_packets: encoded frames that are shown.
        fps: average frames per second, NaN where the file does not say.
        orientation: a, b, c, d of the display matrix, see `orientation.orient`.
        seconds: (num_packets,) when each frame is shown, from 0; NaN where the file does not say.
        end: second at which the last frame ends, NaN where the file does not say.
        times: (num_packets,) presentation times in the stream's unit, rising; None where they do not tell
            the frames apart, so that only decoding tells how many there are.
        starts: positions of the packets that a decoder can start from; empty unless the i-th packet of each
            group is the i-th frame shown, as reading by index needs.
    """

    num_packets: int
    fps: float
    orientation: Orientation
    seconds: NDArray[np.float64]
    end: float
    times: NDArray[np.int64] | None
    starts: frozenset[int]

    @property
    def indexable(self) -> bool:
        """Whether decord's i-th frame is the i-th frame shown, if decord starts from `starts` only."""
        return bool(self.starts)


@contextmanager
def open_video(path: str) -> Iterator[av.container.InputContainer]:
    """Open a file of a known format; what is in it opens no other file and no address.

    Raises:
        VideoError: whatever goes wrong, here and in the block.
    """
    require_content(path)
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    with failures_named(path):
        try:
            container = av.open(local_address(path), options=options, metadata_errors="ignore")
        except av.error.ArgumentError as error:  # FFmpeg's answer to a format that is not on the list
            raise VideoError(path, "it is in none of the video formats that are read") from error
        with container:
            yield container


@contextmanager
def failures_named(path: str) -> Iterator[None]:
    """Whatever fails while a file is read is a `VideoError`.

    PyAV raises its FFmpegError, and what Python raises inside of it: ValueError, UnicodeDecodeError and more.
    """
    try:
        yield
    except VideoError:
        raise
    except Exception as error:  # one broken file must not end a run; the cause stays with the error
        strerror = error.strerror if isinstance(error, OSError | av.FFmpegError) else None
        told = strerror or f"{type(error).__name__}: {error}"
        raise VideoError(path, f"cannot be decoded ({told})") from error


def local_address(path: str) -> str:
    """A path as FFmpeg takes it for a file's, whatever it looks like."""
    return f"file:{path}"


def require_content(path: str) -> None:
    """Tell a missing path, a directory, an empty file and raw frames apart from a damaged video.

    Raises:
        VideoError: if there is nothing to read.
    """
    file = Path(path)
    if not file.exists():
        raise VideoError(path, missing_reason(path))
    if not file.is_file():
        raise VideoError(path, "not a file")
    if file.stat().st_size == 0:
        raise VideoError(path, "the file is empty")
    if is_raw(path):
        raise VideoError(path, RAW_HINT)


def probe(path: str) -> Stream:
    """Read the packets, which costs no decoding, and the first frame's display matrix.

    Raises:
        VideoError: if the file is missing, empty, cut short, without video frames or cannot be read.
    """
    with open_video(path) as container:
        stream = video_stream(container, path)
        names = set(container.format.name.split(","))
        first, packets, end = _read_packets(container, stream, path)
        num_indexed = len(stream.index_entries)
        duration = (container.duration or 0) / 1e6
        if len(packets) < num_indexed:
            raise VideoError(path, f"the file ends after {len(packets)} of {num_indexed} frames")
        if names & MEASURED_CONTAINERS and end < 0.9 * duration:
            raise VideoError(path, f"the file ends after {end:.1f} of {duration:.1f} seconds")
        orientation = orientation_of(first, stream)
        rate = float(stream.average_rate or stream.guessed_rate or np.nan)
        unit = float(stream.time_base or np.nan)
        is_timed = bool(names & TIMED_CONTAINERS)
        is_alone = len(container.streams.video) == 1
        indexed = _indexed_positions(stream, packets)
    # An edit list may hide every frame; then it is the list that is wrong.
    shown = [packet for packet in packets if packet.is_shown] or packets
    seconds, end, fps = _clock(shown, unit, rate)
    times = _frame_times(packets, shown) if is_timed else None
    by_index = times is not None and is_alone and orientation == IDENTITY
    starts = _ordered_starts(packets) if by_index else frozenset()
    starts = starts if starts == indexed else frozenset()
    return Stream(len(shown), fps, orientation, seconds, end, times, starts)


def _read_packets(
    container: av.container.InputContainer, stream: av.VideoStream, path: str
) -> tuple[av.VideoFrame, list[Packet], float]:
    """Return the first frame, the video stream's packets and the end of the longest stream in seconds."""
    coding = Coding.of(stream.codec_context.name, stream.codec_context.extradata)
    first: av.VideoFrame | None = None
    failure = "the video stream has no frames"
    packets: list[Packet] = []
    ends: dict[int, int] = {}
    for packet in container.demux():
        index = packet.stream_index
        if packet.pts is not None:
            ends[index] = max(ends.get(index, 0), packet.pts + (packet.duration or 0))
        if index != stream.index:
            continue
        if first is None:
            try:
                first = next((frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)), None)
            except av.FFmpegError as error:  # one damaged frame; there may be others
                failure = f"cannot be decoded ({error.strerror})"
        if packet.size:
            packets.append(_packet_of(packet, coding))
    if first is None:
        raise VideoError(path, failure)
    units = {index: container.streams[index].time_base for index in ends}
    seconds = [float(end * (units[index] or 0)) for index, end in ends.items()]
    return first, packets, max(seconds, default=0.0)


def _packet_of(packet: av.Packet[Any], coding: Coding) -> Packet:
    data = memoryview(packet)
    is_start = packet.is_keyframe and coding.is_start(data)
    is_shown = not (packet.is_discard or coding.is_hidden(data))
    return Packet(packet.pts, packet.duration or 0, packet.is_keyframe, is_start, is_shown)


def video_stream(container: av.container.InputContainer, path: str) -> av.VideoStream:
    """Return the main video stream, cover pictures of music files not counted."""
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
        raise VideoError(path, "the file has no video stream")
    return stream


def _clock(shown: list[Packet], unit: float, rate: float) -> tuple[NDArray[np.float64], float, float]:
    """When each frame is shown and the last one ends, in seconds, and the average rate.

    The packets' times tell all three; where they are missing, the rate that the file states.
    """
    timed = sorted((packet.time, packet.duration) for packet in shown if packet.time is not None)
    times = np.array([time for time, _ in timed], dtype=np.float64) * unit
    if len(times) < len(shown) or np.isnan(unit) or (np.diff(times) == 0).any():
        return np.arange(len(shown)) / rate, len(shown) / rate, rate
    seconds = times - times[0]
    gap = seconds[-1] - seconds[-2] if len(seconds) > 1 else 1 / rate
    last = timed[-1][1] * unit or gap
    end = float(seconds[-1] + last)
    # A constant rate is known exactly; times are rounded, in Matroska to milliseconds.
    is_constant = abs(end * rate - len(shown)) < 0.5
    return seconds, end, rate if is_constant else len(shown) / end


def _frame_times(packets: list[Packet], shown: list[Packet]) -> NDArray[np.int64] | None:
    """(N,) when each frame is shown; None unless every shown packet gives a frame with a time of its own."""
    times = sorted(packet.time for packet in shown if packet.time is not None)
    is_told = len(times) == len(shown) and len(set(times)) == len(times)
    first = packets[0]
    # A decoder drops what comes before the first start, in the file or on the screen.
    is_whole = first.is_start and first.time is not None and first.time <= times[0] if is_told else False
    return np.array(times, dtype=np.int64) if is_whole else None


def _indexed_positions(stream: av.VideoStream, packets: list[Packet]) -> set[int]:
    """The packets that the container's index leads to; -1 for a place where none is.

    Seeking follows the index. FFmpeg corrects the packets' flags of some codecs and not the index; who
    believes the flags then starts elsewhere than it thinks.
    """
    entries = list(stream.index_entries)
    if len(entries) == len(packets):  # of every frame, as MP4 has it
        return {i for i, entry in enumerate(entries) if entry.is_keyframe}
    position = {packet.time: i for i, packet in enumerate(packets)}
    return {position.get(entry.timestamp, -1) for entry in entries if entry.is_keyframe}


def _ordered_starts(packets: list[Packet]) -> frozenset[int]:
    """The starts, if each is shown as many frames after the first as it is stored: closed groups only.

    None at all where a frame is hidden or a flag is untrue, which costs reading by index and nothing else.
    """
    if not all(packet.is_shown and packet.keyframe == packet.is_start for packet in packets):
        return frozenset()
    rank = np.argsort(np.argsort(np.array([packet.time for packet in packets], dtype=np.int64)))
    starts = np.flatnonzero([packet.is_start for packet in packets])
    return frozenset(starts.tolist()) if np.array_equal(rank[starts], starts) else frozenset()
