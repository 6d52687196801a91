"""Decoding a video from its first frame on: slower than by index, right whatever the container's flags say.

Refuses to know why a frame is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Set
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from vqathinker.media.container import VideoError, open_video, video_stream
from vqathinker.media.orientation import Frames

MAX_LOST = 0.1  # share of a video's frames that may be lost


@dataclass(frozen=True, eq=False)
class Decoded:
    """What was kept of a video.

    Attributes:
        frames: the wanted ones that exist, by number.
        num_frames: frames of the video.
        num_lost: frames that cannot be decoded, up to the last one that was looked at.
    """

    frames: dict[int, Frames]
    num_frames: int
    num_lost: int


def decode_frames(
    path: str,
    wanted: Set[int],
    finish: Callable[[Frames], Frames],
    *,
    times: NDArray[np.int64] | None = None,
    num_frames: int | None = None,
) -> Decoded:
    """Decode in order and keep the wanted frames.

    Args:
        path: a video file.
        wanted: numbers of frames, from 0.
        finish: applied to every kept (H, W, 3) frame as it is read.
        times: (N,) when each frame is shown, in the stream's unit. A frame that cannot be decoded then keeps
            its number, and the one before it stands for it, as on a player's screen. Without times the frames
            that can be decoded are counted.
        num_frames: how many they are, where that is known: then decoding ends with the last wanted one.

    Raises:
        VideoError: if the file cannot be read, no frame or too few can be decoded, or their size changes.
    """
    picker = Picker(wanted, finish, times)
    can_stop = times is not None or num_frames is not None
    failures: list[av.FFmpegError] = []
    num_untold = 0  # frames that were to come and did not
    with closing(_decode(path)) as items:
        for item in items:
            if isinstance(item, av.FFmpegError):
                failures.append(item)
                continue
            picker.add(item)
            if can_stop and not picker.waiting:
                break
        else:
            picker.end()
            num_untold = 0 if num_frames is None else max(0, num_frames - picker.count)
    is_misnumbered = times is not None and not failures and picker.num_missing > MAX_LOST * len(times)
    if is_misnumbered:  # nothing is damaged: frames and packets are not the same here
        return decode_frames(path, wanted, finish)
    num_lost = max(len(failures), num_untold) if times is None else picker.num_missing
    total = num_frames or picker.count + num_lost if times is None else len(times)
    failure = failures[-1].strerror if failures else "no frame"
    if not picker.count:
        raise VideoError(path, f"cannot be decoded ({failure})")
    if num_lost > MAX_LOST * total:
        raise VideoError(path, f"cannot be decoded ({failure}: {num_lost} of {total} frames are lost)")
    if len(picker.sizes) > 1:
        raise VideoError(path, "the frame size changes within the video")
    told = len(times) if times is not None else num_frames
    return Decoded(picker.frames, told or picker.count, num_lost)


def frame_times(path: str) -> list[float | None]:
    """The second at which each frame that can be decoded is shown, None where it is not told.

    Raises:
        VideoError: if the file cannot be read.
    """
    with closing(_decode(path)) as items:
        return [item.time for item in items if isinstance(item, av.VideoFrame)]


class Picker:
    """Numbers the frames of a decoder and keeps the wanted ones; see `decode_frames` for the arguments."""

    def __init__(
        self, wanted: Set[int], finish: Callable[[Frames], Frames], times: NDArray[np.int64] | None
    ) -> None:
        self.waiting = sorted(wanted, reverse=True)
        self.finish = finish
        self.times = times
        self.frames: dict[int, Frames] = {}
        self.sizes: set[tuple[int, int]] = set()
        self.count = 0
        self._number = -1
        self._last: av.VideoFrame | None = None

    @property
    def num_missing(self) -> int:
        """Numbers passed over without a frame."""
        return self._number + 1 - self.count

    def add(self, frame: av.VideoFrame) -> None:
        """Take the decoder's next frame."""
        number = self._number_of(frame)
        if number <= self._number:  # a second picture of one moment
            return
        self._keep(self._last or frame, number)
        self._keep(frame, number + 1)
        self._number = number
        self._last = frame
        self.count += 1

    def end(self) -> None:
        """Take note that there are no more frames: the last one stands for those that were to come."""
        if self._last is None:
            return
        if self.times is not None:
            self._number = len(self.times) - 1
        self._keep(self._last, self.waiting[0] + 1 if self.waiting else 0)

    def _keep(self, frame: av.VideoFrame, stop: int) -> None:
        """Let a frame stand for all waiting numbers below one."""
        while self.waiting and self.waiting[-1] < stop:
            pixels = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            self.frames[self.waiting.pop()] = self.finish(pixels)
            self.sizes.add((frame.width, frame.height))

    def _number_of(self, frame: av.VideoFrame) -> int:
        if self.times is None or frame.pts is None:
            return self._number + 1
        return int(np.searchsorted(self.times, frame.pts, side="right")) - 1


def decode_packets(
    container: av.container.InputContainer, stream: av.VideoStream, *others: av.stream.Stream
) -> Iterator[av.VideoFrame | av.FFmpegError | av.Packet[Any]]:
    """Yield every frame of a stream in the order of presentation, and an error for every packet without one.

    Packets of other streams come between as they are.
    """
    for packet in container.demux(stream, *others):
        if packet.stream_index != stream.index:
            yield packet
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            yield error
        else:
            yield from (frame for frame in frames if isinstance(frame, av.VideoFrame))


def _decode(path: str) -> Generator[av.VideoFrame | av.FFmpegError, None, None]:
    """As `decode_packets`, of the main video stream of a file."""
    with open_video(path) as container:
        stream = video_stream(container, path)
        stream.codec_context.thread_count = 1  # files are decoded beside one another
        for item in decode_packets(container, stream):
            assert not isinstance(item, av.Packet)
            yield item
