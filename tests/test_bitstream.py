"""The frames of a file are those of decoding in order, whatever flags its container gives them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import decord
import numpy as np
import pytest
from conftest import decode_all, frame_number, rewrap, rounds, write_video
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vqathinker.media.bitstream import Coding
from vqathinker.media.container import probe
from vqathinker.media.video import read_keyframes, read_spans

NUM_FRAMES = 40
X265 = "log-level=none:keyint=12:min-keyint=12"

# name of the file, encoder, its options, further settings
CODECS = {
    "h264.mp4": ("libx264", {"g": "12", "sc_threshold": "0"}),
    "h264.mkv": ("libx264", {"g": "12", "sc_threshold": "0", "bf": "0"}),
    "hevc.mp4": ("libx265", {"x265-params": f"{X265}:open-gop=0"}),
    "hevc.mkv": ("libx265", {"x265-params": f"{X265}:open-gop=0:bframes=0"}),
    "mpeg4.mp4": ("mpeg4", {"g": "12"}),
    "mpeg4.mkv": ("mpeg4", {"g": "12"}),
    "mpeg2.mkv": ("mpeg2video", {"g": "12"}),
    "mpeg1.mkv": ("mpeg1video", {"g": "12"}),
    "vp8.webm": ("libvpx", {"g": "12", "auto-alt-ref": "0"}),
    "vp9.webm": ("libvpx-vp9", {"g": "12", "lag-in-frames": "16"}),
    "vp9.mp4": ("libvpx-vp9", {"g": "12"}),
    "ffv1.mkv": ("ffv1", {"g": "12"}),
}
# Files whose keyframes are no starts of their own, or are shown elsewhere than they are stored.
UNUSUAL = {
    "open h264.mp4": ("libx264", {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0:scenecut=0"}),
    "open hevc.mp4": ("libx265", {"x265-params": f"{X265}:open-gop=1:bframes=3"}),
    "open mpeg2.mkv": ("mpeg2video", {"g": "12", "bf": "2"}),
    "open mpeg4.mp4": ("mpeg4", {"g": "12", "bf": "2"}),
    "refresh.mp4": ("libx264", {"tune": "zerolatency", "x264-params": "intra-refresh=1:keyint=12"}),
    "refresh.mkv": ("libx264", {"tune": "zerolatency", "x264-params": "intra-refresh=1:keyint=12"}),
    "intra.mov": ("prores", {}),
}


@cache
def folder() -> TemporaryDirectory:
    return TemporaryDirectory()


@cache
def encoded(name: str) -> Path:
    codec, options = (CODECS | UNUSUAL)[name]
    pix_fmt = "yuv422p10le" if codec == "prores" else "yuv420p"
    path = Path(folder().name, name)
    return write_video(path, NUM_FRAMES, codec=codec, options=options, pix_fmt=pix_fmt)


def check_frames(path: Path) -> None:
    """All ways to read give the frames of decoding in order."""
    expected = decode_all(path)
    clip = read_keyframes(path, 6)
    assert clip.num_frames == len(expected)
    np.testing.assert_array_equal(clip.frames, expected[clip.indices])
    for window in read_spans(path, [(9, 21), (20, 33)], 5):
        assert window.num_frames == len(expected)
        np.testing.assert_array_equal(window.frames, expected[window.indices])


@pytest.mark.parametrize("name", [*CODECS, "open hevc.mp4", "intra.mov"])
def test_a_frame_tells_whether_it_is_a_start(name: str) -> None:
    """A decoder calls the same frames keyframes."""
    path = encoded(name)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        coding = Coding.of(stream.codec_context.name, stream.codec_context.extradata)
        packets = {packet.pts: bytes(packet) for packet in container.demux(stream) if packet.size}
    with av.open(str(path)) as container:
        keyframes = {frame.pts for frame in container.decode(video=0) if frame.key_frame}
    assert {time for time, data in packets.items() if coding.is_start(data)} == keyframes
    assert len(keyframes) in (4, NUM_FRAMES)
    assert not any(coding.is_hidden(data) for data in packets.values())


def test_start_codes_in_place_of_lengths(tmp_path: Path) -> None:
    """H.264 in MPEG-TS parts its units by start codes."""
    path = rewrap(encoded("h264.mp4"), tmp_path / "video.ts")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        coding = Coding.of("h264", stream.codec_context.extradata)
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert coding.prefix_size == 0
    assert [coding.is_start(bytes(packet)) for packet in packets] == [p.is_keyframe for p in packets]
    assert sum(packet.is_keyframe for packet in packets) == 4


@pytest.mark.parametrize("prefix_size", [0, 1, 4])
@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "mpeg2video", "vp8", "vp9", "ffv1", "av1"])
def test_what_is_no_frame_is_no_start(codec: str, prefix_size: int) -> None:
    coding = Coding(codec, prefix_size)
    for content in (b"", b"\0", b"\0\0\1", b"\0\0\1\xb6", b"\0\0\1\0", b"\0\0\0\1", bytes(5), bytes(50)):
        assert not coding.is_start(content)
        assert not coding.is_start(memoryview(content))


@pytest.mark.parametrize("name", CODECS)
def test_honest_files_are_read_by_index(name: str) -> None:
    starts = probe(str(encoded(name))).starts
    assert len(starts) == 4
    assert starts == set(decord.VideoReader(str(encoded(name))).get_key_indices())  # else it is not used
    check_frames(encoded(name))


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_files(name: str, tmp_path: Path) -> None:
    path = encoded(name)
    assert probe(str(path)).indexable is (name == "intra.mov")
    check_frames(path)
    check_frames(rewrap(path, tmp_path / name, flag=lambda _: True))


def every(number: int) -> set[int]:
    return set(range(0, NUM_FRAMES, number))


@settings(max_examples=rounds(12, 300))
@example("hevc.mp4", every(1), True)
@example("hevc.mp4", every(1), False)
@example("hevc.mkv", every(10), False)
@example("h264.mp4", every(1), False)
@example("mpeg4.mkv", every(10), False)
@example("vp9.webm", every(7), False)
@example("h264.mkv", {24}, False)  # an index with fewer starts than there are
@given(st.sampled_from(sorted(CODECS)), st.sets(st.integers(1, NUM_FRAMES - 1)), st.booleans())
def test_one_bitstream_is_one_clip_whatever_its_flags(name: str, flagged: set[int], fragmented: bool) -> None:
    """Honest, all-sync, fragmented and every other flagging give the frames of decoding in order."""
    source = encoded(name)
    is_fragmented = fragmented and source.suffix == ".mp4"
    options = {"movflags": "empty_moov+default_base_moof", "frag_duration": "400000"} if is_fragmented else {}
    path = source.with_stem(f"flagged {source.stem}")
    rewrap(source, path, flag=lambda i: i == 0 or i in flagged, container_options=options)
    check_frames(path)
    np.testing.assert_array_equal(read_keyframes(path, 6).frames, read_keyframes(source, 6).frames)


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4.mkv", "mpeg2.mkv"])
def test_a_file_that_begins_in_the_middle_of_a_group(name: str, tmp_path: Path) -> None:
    check_frames(rewrap(encoded(name), tmp_path / name, drop=5))


def test_hidden_frames_are_no_frames(tmp_path: Path) -> None:
    """VP8 stores the pictures that later ones refer to as packets of their own, which are never shown."""

    def hide(index: int, content: bytearray) -> bytearray:
        if index % 8 == 3:
            content[0] &= ~0x10
        return content

    path = rewrap(encoded("vp8.webm"), tmp_path / "hidden.webm", change=hide)
    shown = [i for i in range(NUM_FRAMES) if i % 8 != 3]
    assert [frame_number(frame) for frame in decode_all(path)] == shown
    stream = probe(str(path))
    assert stream.num_packets == len(shown)
    assert stream.seconds.tolist() == pytest.approx([i / 25 for i in shown], abs=1e-3)
    check_frames(path)
