"""What an encoded frame says about itself, whatever flags its container gives it.

A container's flag is one bit that many programs set wrongly; the coded picture holds its type in its first
bytes. A codec that is not read here has no frame that is known to be a start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

Data = bytes | memoryview

H264_SLICES = frozenset({1, 2, 5})
H264_IDR = 5
HEVC_FIRST_START = 16
HEVC_LAST_START = 23
HEVC_LAST_SLICE = 31
START_CODE = b"\0\0\1"
VP8_START = b"\x9d\x01\x2a"
VP9_MARKER = 0b10
FFV1_KEYFRAME = 0x7F80  # half of the range coder's first interval: the first bit of a keyframe is 1

# Codecs whose every frame stands alone.
INTRA_ONLY = frozenset({
    "cfhd", "dnxhd", "dvvideo", "ffvhuff", "huffyuv", "jpeg2000", "magicyuv", "mjpeg", "png", "prores",
    "rawvideo", "utvideo", "v210",
})  # fmt: skip


class Coding(NamedTuple):
    """How the frames of one stream are told apart.

    Attributes:
        codec: FFmpeg's name.
        prefix_size: bytes of the length before each unit of H.264 and HEVC; 0 where start codes part them.
    """

    codec: str
    prefix_size: int

    @classmethod
    def of(cls, codec: str, extradata: bytes | None) -> Coding:
        """The coding of a stream with this header."""
        place = {"h264": 4, "hevc": 21}.get(codec)
        is_prefixed = place is not None and extradata is not None and len(extradata) > place
        if place is None or not is_prefixed or extradata is None or extradata[0] != 1:
            return cls(codec, 0)
        return cls(codec, (extradata[place] & 3) + 1)

    def is_start(self, data: Data) -> bool:
        """Whether a decoder that knows nothing yet shows this frame and all that follow as they are.

        Recovery points of H.264 do not count: what they promise (a picture that is right after some frames,
        or approximately) is less.
        """
        if self.codec in INTRA_ONLY:
            return True
        starts = STARTS.get(self.codec)
        return starts is not None and starts(data, self)

    def is_hidden(self, data: Data) -> bool:
        """Whether a packet holds no frame to be shown, only one that later frames refer to."""
        if self.codec == "vp8":
            return len(data) > 0 and not data[0] & 0x10
        if self.codec == "vp9":
            return len(data) > 0 and not _is_superframe(data) and not _vp9_flags(data[0]).is_shown
        return False


def _units(data: Data, prefix_size: int) -> Iterator[int]:
    """The first byte of every unit of a packet of H.264 or HEVC."""
    place = 0
    if prefix_size:
        while place + prefix_size < len(data):
            size = int.from_bytes(data[place : place + prefix_size], "big")
            yield data[place + prefix_size]
            place += prefix_size + size
        return
    content = bytes(data)
    place = content.find(START_CODE)
    while 0 <= place < len(content) - len(START_CODE):
        yield content[place + len(START_CODE)]
        place = content.find(START_CODE, place + len(START_CODE))


def _starts_h264(data: Data, coding: Coding) -> bool:
    kinds = (unit & 31 for unit in _units(data, coding.prefix_size))
    return next((kind == H264_IDR for kind in kinds if kind in H264_SLICES), False)


def _starts_hevc(data: Data, coding: Coding) -> bool:
    kinds = (unit >> 1 & 63 for unit in _units(data, coding.prefix_size))
    first = next((kind for kind in kinds if kind <= HEVC_LAST_SLICE), 0)
    return HEVC_FIRST_START <= first <= HEVC_LAST_START


def _starts_mpeg4(data: Data, _: Coding) -> bool:
    """The picture's header is the byte B6; two bits 0 tell an intra picture."""
    content = bytes(data)
    place = content.find(START_CODE + b"\xb6")
    return 0 <= place < len(content) - 4 and content[place + 4] >> 6 == 0


def _starts_mpeg2(data: Data, _: Coding) -> bool:
    """The picture's header is the byte 00, ten bits that count and three bits, 1 for an intra picture."""
    content = bytes(data)
    place = content.find(START_CODE + b"\0")
    return 0 <= place < len(content) - 5 and content[place + 5] >> 3 & 7 == 1


def _starts_vp8(data: Data, _: Coding) -> bool:
    return len(data) > 5 and not data[0] & 1 and bytes(data[3:6]) == VP8_START


class Vp9Flags(NamedTuple):
    """What the first byte of a frame tells."""

    is_keyframe: bool
    is_shown: bool


def _vp9_flags(first: int) -> Vp9Flags:
    """Two bits of marker and two of profile; a profile of 3 has one bit more."""
    bits = first << 1 if first >> 4 & 3 == 3 else first
    is_repeat = bool(bits & 8)
    return Vp9Flags(not (is_repeat or bits & 4), is_repeat or bool(bits & 2))


def _is_superframe(data: Data) -> bool:
    """Whether a packet holds several frames of VP9, of which the last is shown."""
    return data[-1] >> 5 == 0b110


def _starts_vp9(data: Data, _: Coding) -> bool:
    return len(data) > 0 and data[0] >> 6 == VP9_MARKER and _vp9_flags(data[0]).is_keyframe


def _starts_ffv1(data: Data, _: Coding) -> bool:
    return int.from_bytes(data[:2], "big") >= FFV1_KEYFRAME


STARTS: dict[str, Callable[[Data, Coding], bool]] = {
    "h264": _starts_h264,
    "hevc": _starts_hevc,
    "mpeg4": _starts_mpeg4,
    "mpeg2video": _starts_mpeg2,
    "mpeg1video": _starts_mpeg2,
    "vp8": _starts_vp8,
    "vp9": _starts_vp9,
    "ffv1": _starts_ffv1,
}
