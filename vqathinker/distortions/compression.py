"""Compression: what JPEG, JPEG2000, H.264 and H.265 leave."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

from vqathinker.distortions.base import TEMPORAL_WORDS, Apply, Distortion, Frames, each_frame
from vqathinker.media.write import REPEATABLE, Encoding

# formats of the bare pictures: the container of x265's now and then refuses its last packets
BARE = {"libx264": "h264", "libx265": "hevc"}
RATE = Fraction(25)  # frames a second, which the bytes of a constant quality do not depend on


class Jpeg(Distortion):
    """JPEG at such a quality."""

    levels = (43, 36, 24, 7, 4)

    def draw(self, value: int, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""
        return each_frame(lambda frame: _through_file(frame, "JPEG", quality=value))


class Jpeg2000(Distortion):
    """JPEG2000 with so many bytes of the picture for one of the file."""

    levels = (16, 32, 45, 120, 400)

    def draw(self, value: int, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""
        rates = {"quality_mode": "rates", "quality_layers": [value], "irreversible": True}
        return each_frame(lambda frame: _through_file(frame, "JPEG2000", **rates))


class H264(Distortion):
    """H.264 (libx264) at such a constant rate factor, preset fast, without its tree of macroblocks.

    With it the bytes differ from run to run (`media.write`); a rate factor means a little more quality so.
    """

    levels = (24, 36, 48)
    ranks = (1, 2, 3)
    words = TEMPORAL_WORDS
    codec = "libx264"
    preset = "fast"
    needs_time = True

    def __init__(self, *, stretch: bool = False) -> None:
        """Refuse to stretch: KADIS, which does, has no distortion of this kind."""
        if stretch:
            raise ValueError("stretch is for the 25 kinds of KADIS, not for codecs")
        super().__init__()

    def draw(self, value: int, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""
        return lambda frames: through_codec(frames, self.codec, self._options(value))

    def encoding(self, level: int) -> Encoding:
        """The codec itself."""
        return Encoding(self.codec, self._options(self._parameter(level)))

    def _options(self, value: int) -> dict[str, str]:
        options = {"crf": str(value), "preset": self.preset}
        if self.codec == "libx265":
            return {**options, "x265-params": "log-level=error"}
        return {**options, **REPEATABLE}


SHORTEST = {"libx265": 64}  # pixels: below the size of its largest block it writes beyond its memory


class H265(H264):
    """H.265 (libx265) at such a constant rate factor, preset veryslow."""

    codec = "libx265"
    preset = "veryslow"


def through_codec(frames: Frames, codec: str, options: dict[str, str]) -> Frames:
    """Encode a clip and decode it again.

    Args:
        frames: (T, H, W, 3); sides that are odd or too short for the codec are filled up by their last row
            or column.
        codec: name of an encoder of FFmpeg.
        options: of the encoder.
    """
    height, width = frames.shape[1:3]
    least = SHORTEST.get(codec, 2)
    more_rows, more_columns = (max(least - side, side % 2) for side in (height, width))
    even = np.pad(frames, ((0, 0), (0, more_rows), (0, more_columns), (0, 0)), mode="edge")
    content = io.BytesIO()
    with av.open(content, mode="w", format=BARE[codec]) as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = even.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        for number, picture in enumerate(even):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            frame.time_base = 1 / RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content.seek(0)
    with av.open(content, mode="r", format=BARE[codec]) as written:
        decoded = [frame.to_ndarray(format="rgb24") for frame in written.decode(video=0)]
    assert len(decoded) == len(frames)
    clip: Frames = np.stack(decoded).astype(np.uint8, copy=False)
    return clip[:, :height, :width]


def _through_file(frame: Frames, form: str, **options: object) -> Frames:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, form, **options)
    return np.asarray(Image.open(content))
