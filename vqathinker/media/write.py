"""Videos and pictures written again with other pixels; all else about them stays as it was.

A video goes through part after part, so that memory does not grow with its length.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from os import fspath
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import av
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image

from vqathinker.atomic import whole_file
from vqathinker.media.container import StrPath, VideoError, open_video, video_stream
from vqathinker.media.decoding import MAX_LOST, decode_packets
from vqathinker.media.image import read_image
from vqathinker.media.orientation import Frames, Orientation, is_turned, orient, orientation_of

PART = 8  # frames that are changed at a time
COPIED = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})  # sound that MP4 holds as it is
OTHER_SOUND = "aac"
# samples a second that AAC has
SOUND_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
# errors that are not the source's
OF_THE_DISK = (
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ENOENT, errno.ENOSPC,
    errno.ENOTDIR, errno.EPERM, errno.EROFS,
)  # fmt: skip
LAYOUTS = {1: "mono", 6: "5.1", 8: "7.1"}  # of channels by their number; others are mixed to stereo
USUAL_RATE = Fraction(25)  # frames a second of a file that does not say
FULL_RANGE = 2
# matrices (ITU-T H.273) that pixels can be converted by; one that the file does not tell is read as BT.601
BT709 = 1
UNSAID = 2
MATRICES = {
    BT709: Colorspace.ITU709,
    UNSAID: Colorspace.ITU601,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
COPIED_COLOURS = ("color_primaries", "color_trc")

Change = Callable[[Frames], Frames]
Begin = Callable[[tuple[int, int]], Change]
Item: TypeAlias = "Source | av.VideoFrame | av.Packet[Any] | av.FFmpegError"


# x264's tree of macroblocks reads memory that nobody wrote where a width is no multiple of 128 pixels: the
# bytes would differ from run to run
REPEATABLE = {"x264-params": "mbtree=0"}


@dataclass(frozen=True)
class Encoding:
    """How a video is encoded.

    Attributes:
        codec: name of an encoder of FFmpeg.
        options: of the encoder; by default no loss that can be seen.
    """

    codec: str = "libx264"
    options: Mapping[str, str] = field(
        default_factory=lambda: {"crf": "10", "preset": "veryfast", **REPEATABLE}
    )


@dataclass(frozen=True)
class Source:
    """The streams of a file that is written again.

    Attributes:
        video: its frames.
        sound: the sound, None if there is none.
    """

    video: av.VideoStream
    sound: av.AudioStream | None


def rewrite_video(path: StrPath, out: StrPath, begin: Begin, *, encoding: Encoding | None = None) -> int:
    """Write a video with its frames changed.

    Frame times, size, sound and the meaning of its colours are kept. Frames are upright: a rotation that the
    file asks of a player is carried out. Samples have 8 bits. Frames that cannot be decoded are left out.

    Args:
        path: a video file.
        out: an MP4 file, there in one piece or not at all.
        begin: from the (H, W) of the upright frames to what changes each (T, H, W, 3) part of them.
        encoding: of the frames; visually lossless H.264 if omitted.

    Returns:
        The number of frames.

    Raises:
        VideoError: if the file cannot be read, too much of it is damaged, or the frame size changes in it.
        OSError: if `out` cannot be written.
    """
    path = fspath(path)
    num_lost = 0
    items = _read(path)
    with closing(items), whole_file(out) as part:
        source = next(items)
        assert isinstance(source, Source)
        # the header of the new file needs what the first frame tells
        before, first = _until_frame(items, path)
        shape = Shape.of(first, source.video)
        with _Writer(part, path, source, shape, encoding or Encoding()) as writer:
            change = begin(shape.size)
            waiting: list[av.VideoFrame] = []
            for item in chain(before, [first], items):
                if isinstance(item, av.VideoFrame):
                    waiting.append(item)
                elif isinstance(item, av.Packet):
                    writer.add_sound(item)
                else:
                    num_lost += 1
                if len(waiting) == PART:
                    writer.add_frames(waiting, change)
                    waiting = []
            writer.add_frames(waiting, change)
            writer.finish()
        if num_lost > MAX_LOST * (writer.num_frames + num_lost):
            total = writer.num_frames + num_lost
            raise VideoError(path, f"cannot be decoded ({num_lost} of {total} frames are lost)")
    return writer.num_frames


def rewrite_image(path: StrPath, out: StrPath, begin: Begin) -> None:
    """Write a picture, changed, as PNG: upright, RGB, 8 bits.

    Args:
        path: a file that Pillow reads.
        out: there in one piece or not at all.
        begin: from its (H, W) to what changes it as a clip of one frame.

    Raises:
        VideoError: if it cannot be read.
        OSError: if `out` cannot be written.
    """
    frames = read_image(path).frames
    changed = begin((frames.shape[1], frames.shape[2]))(frames)
    with whole_file(out) as part:
        Image.fromarray(changed[0]).save(part, "PNG")


def _read(path: str) -> Generator[Item, None, None]:
    """Yield the streams of a file, then what is in them; what is raised here is the file's fault alone."""
    with open_video(path) as container:
        video = video_stream(container, path)
        video.codec_context.thread_count = 1  # files are rewritten beside one another
        sound = container.streams.best("audio")
        source = Source(video, sound if isinstance(sound, av.AudioStream) else None)
        yield source
        others = [] if source.sound is None else [source.sound]
        yield from decode_packets(container, video, *others)


def _until_frame(items: Iterable[Item], path: str) -> tuple[list[Item], av.VideoFrame]:
    """The first frame, and what comes before it."""
    before: list[Item] = []
    for item in items:
        if isinstance(item, av.VideoFrame):
            return before, item
        before.append(item)
    failures = [item.strerror for item in before if isinstance(item, av.FFmpegError)]
    raise VideoError(path, f"cannot be decoded ({failures[-1] if failures else 'no frame'})")


@dataclass(frozen=True)
class Shape:
    """What the frames of a video have in common.

    Attributes:
        stored: (H, W) as they are decoded.
        orientation: how they are turned, see `orientation.orient`.
        format: pixel format that they are encoded in.
        matrix: number of the matrix between RGB and it.
        color_range: number of the range of its values.
        aspect: width by height of a pixel of the upright frames, None where it is not told.
    """

    stored: tuple[int, int]
    orientation: Orientation
    format: str
    matrix: int
    color_range: int
    aspect: Fraction | None

    @classmethod
    def of(cls, frame: av.VideoFrame, stream: av.VideoStream) -> Shape:
        """What the first frame tells."""
        orientation = orientation_of(frame, stream)
        is_full = frame.color_range == FULL_RANGE
        # colours of half the size need even sides
        is_odd = bool(frame.width % 2 or frame.height % 2)
        has_whole_colours = is_odd or "444" in frame.format.name or frame.format.is_rgb
        names = ("yuvj444p", "yuvj420p") if is_full else ("yuv444p", "yuv420p")
        aspect = stream.sample_aspect_ratio or None
        return cls(
            stored=(frame.height, frame.width),
            orientation=orientation,
            format=names[0] if has_whole_colours else names[1],
            matrix=frame.colorspace if frame.colorspace in MATRICES else BT709,
            color_range=frame.color_range,
            aspect=1 / aspect if aspect and is_turned(orientation) else aspect,
        )

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the upright frames."""
        height, width = self.stored
        return (width, height) if is_turned(self.orientation) else (height, width)


class _Writer:
    """A file that is written, and its encoders.

    Args:
        out: the file.
        path: of the source, for its faults.
        source: what is written again.
        shape: of its frames.
        encoding: of the new ones.
    """

    def __init__(self, out: Path, path: str, source: Source, shape: Shape, encoding: Encoding) -> None:
        self.out = out
        self.path = path
        self.shape = shape
        self.num_frames = 0
        stream = source.video
        rate = stream.average_rate or stream.guessed_rate or USUAL_RATE
        self.unit = stream.time_base or 1 / rate
        self.step = max(round(1 / (rate * self.unit)), 1)
        self.last: int | None = None  # time of the frame before
        with self._named():
            self.container = av.open(str(out), "w", format="mp4")
        try:
            with self._named():
                self.video = self._add_video(stream, rate, encoding)
                self.sound = None if source.sound is None else self._add_sound(source.sound)
        except (VideoError, OSError):
            self.container.close()
            raise

    def add_frames(self, frames: Sequence[av.VideoFrame], change: Change) -> None:
        """Change frames of the source and encode them.

        Raises:
            VideoError: if one has another size than the first.
            OSError: if nothing more can be written.
        """
        timed = [frame for frame in frames if self._set_time(frame)]
        if not timed:
            return
        if any((frame.height, frame.width) != self.shape.stored for frame in timed):
            raise VideoError(self.path, "the frame size changes within the video")
        pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in timed])
        changed = change(orient(pixels.astype(np.uint8, copy=False), self.shape.orientation))
        for old, picture in zip(timed, changed, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format=self.shape.format, dst_colorspace=MATRICES[self.shape.matrix])
            frame.pts = old.pts
            frame.duration = old.duration
            frame.time_base = self.unit
            with self._named():
                self.container.mux(self.video.encode(frame))
        self.num_frames += len(timed)

    def add_sound(self, packet: av.Packet[Any]) -> None:
        """Take the next packet of the source's sound, as it is or decoded and encoded again."""
        if self.sound is None or packet.dts is None:  # the last packet, which only says that there is no more
            return
        if self.is_copied:
            packet.stream = self.sound
            with self._named():
                self.container.mux(packet)
            return
        try:
            decoded = packet.decode()
        except av.FFmpegError:  # damaged sound is silence, as in a player
            return
        for frame in decoded:
            with self._named():
                self.container.mux(self.sound.encode(frame))

    def finish(self) -> None:
        """Write what the encoders hold."""
        with self._named():
            self.container.mux(self.video.encode())
            if self.sound is not None and not self.is_copied:
                self.container.mux(self.sound.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._named():
            self.container.close()

    def _add_video(self, source: av.VideoStream, rate: Fraction, encoding: Encoding) -> Any:  # noqa: ANN401  PyAV's
        stream: Any = self.container.add_stream(encoding.codec, rate=rate, options=dict(encoding.options))
        stream.height, stream.width = self.shape.size
        stream.pix_fmt = self.shape.format
        stream.time_base = self.unit
        context = stream.codec_context
        context.time_base = self.unit
        context.thread_count = 1
        context.colorspace = self.shape.matrix
        context.color_range = self.shape.color_range
        for name in COPIED_COLOURS:
            setattr(context, name, getattr(source.codec_context, name))
        if self.shape.aspect is not None:
            context.sample_aspect_ratio = self.shape.aspect
        return stream

    def _add_sound(self, source: av.AudioStream) -> Any:  # noqa: ANN401  PyAV's
        self.is_copied = source.codec_context.name in COPIED
        if self.is_copied:
            return self.container.add_stream_from_template(source)
        rate = min(SOUND_RATES, key=lambda known: abs(known - source.rate))
        return self.container.add_stream(
            OTHER_SOUND, rate=rate, layout=LAYOUTS.get(source.channels, "stereo")
        )

    def _set_time(self, frame: av.VideoFrame) -> bool:
        """Give a frame its time; whether it is shown after the one before."""
        if frame.pts is None:  # a container without times: one after the other
            frame.pts = 0 if self.last is None else self.last + self.step
        if self.last is not None and frame.pts <= self.last:  # a second picture of one moment
            return False
        self.last = frame.pts
        return True

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What goes wrong while writing: an OSError of the new file, or something about the source."""
        try:
            yield
        except av.FFmpegError as error:
            if error.errno in OF_THE_DISK:
                raise OSError(error.errno, error.strerror, str(self.out)) from error
            raise VideoError(self.path, f"cannot be written again ({error.strerror})") from error
