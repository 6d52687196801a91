"""Windows by the time that frames are shown, also where the rate varies."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import decode_all, frame_number, numbered_frame, rewrap
from hypothesis import example, given
from hypothesis import strategies as st

from vqathinker.media.container import VideoError, probe
from vqathinker.media.video import read_spans
from vqathinker.media.windows import find_windows, split


@example([0.0625, 1.0], 1.0, 1.0)  # the last window would stand for the first one, and lose its first frame
@example([1 / 30] * 58, 0.9, 0.9)  # a frame of its own in a window that starts just before the last one
@example([2.5], 2.4375, 1.0)  # no frame begins in the last window, but one is shown
@given(
    st.lists(st.floats(0.001, 3), min_size=1, max_size=60),
    st.floats(0.05, 20),
    st.floats(0.05, 20),
)
def test_every_window_holds_the_frames_of_its_seconds(
    gaps: list[float], length: float, stride: float
) -> None:
    times = np.cumsum([0.0, *gaps])
    seconds, end = times[:-1], float(times[-1])
    windows = split(seconds, end, length, stride)
    assert windows[-1].end == pytest.approx(end)
    for window in windows:
        spans = enumerate(itertools.pairwise(times))
        held = [i for i, (t, gone) in spans if gone > window.start + 1e-6 and t < window.end - 1e-6]
        assert held == list(range(window.first, window.stop))
        assert held
        assert window.end - window.start == pytest.approx(min(length, end))
    assert (windows[0].start, windows[0].first) == (0.0, 0) or windows[0].first == 0
    assert windows[-1].stop == len(seconds)
    if stride <= length:
        assert {i for w in windows for i in range(w.first, w.stop)} == set(range(len(seconds)))
    starts = [window.start for window in windows]
    assert starts == sorted(set(starts))


@pytest.mark.parametrize(("length", "stride"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1)])
def test_impossible_windows(length: float, stride: float) -> None:
    with pytest.raises(ValueError, match="both must be positive"):
        split(np.arange(3.0), 3.0, length, stride)


def test_windows_of_a_file(video: Path) -> None:
    windows = find_windows(str(video), length=0.4, stride=0.8)  # 40 frames, 25 per second
    assert [(w.first, w.stop) for w in windows] == [(0, 10), (20, 30), (30, 40)]
    assert windows[-1].end == pytest.approx(1.6)
    clips = read_spans(video, [(w.first, w.stop) for w in windows], 5)
    for window, clip in zip(windows, clips, strict=True):
        shown = [frame_number(frame) for frame in clip.frames]
        assert shown == clip.indices.tolist()
        assert window.first <= min(shown) <= max(shown) < window.stop


def test_hidden_frames_take_no_time(video: Path, tmp_path: Path) -> None:
    """A cut without encoding again keeps frames before the cut, which an edit list hides."""
    path = tmp_path / "cut.mp4"
    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                shift = round(0.4 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                target.mux(packet)
    with av.open(str(path)) as container:
        assert any(packet.is_discard for packet in container.demux(video=0))  # 10 of 40 frames
    windows = find_windows(str(path), length=0.4, stride=0.4)
    assert windows[-1].end == pytest.approx(1.2)
    clips = read_spans(path, [(w.first, w.stop) for w in windows], 3)
    assert [frame_number(clip.frames[0]) for clip in clips] == [11, 21, 31]
    assert clips[0].num_frames == 30


def write_variable_rate(path: Path) -> Path:
    """Ten frames in the first second, forty in the second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(50):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i, 128, 96), format="rgb24")
            frame.pts, frame.time_base = i * 100 if i < 10 else 1000 + (i - 10) * 25, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_variable_rate(tmp_path: Path) -> None:
    path = write_variable_rate(tmp_path / "phone.mp4")
    assert probe(str(path)).seconds[[0, 9, 10, 49]].tolist() == pytest.approx([0, 0.9, 1.0, 1.975], abs=2e-3)
    windows = find_windows(str(path), length=1.0, stride=1.0)
    assert [(w.first, w.stop) for w in windows] == [(0, 10), (10, 50)]


def test_a_file_without_times_uses_its_rate(make_video: Callable[..., Path], tmp_path: Path) -> None:
    path = make_video(tmp_path / "old.avi", 30, codec="mpeg4", fps=10)
    assert [(w.first, w.stop) for w in find_windows(str(path), length=1, stride=1)] == [
        (0, 10),
        (10, 20),
        (20, 30),
    ]


def test_packets_that_are_hidden_take_no_time(make_video: Callable[..., Path], tmp_path: Path) -> None:
    """The windows of a file with pictures that are never shown hold the frames of their seconds."""

    def hide(index: int, content: bytearray) -> bytearray:
        if index % 4 == 3:
            content[0] &= ~0x10
        return content

    source = make_video(tmp_path / "whole.webm", 40, codec="libvpx", options={"auto-alt-ref": "0"})
    path = rewrap(source, tmp_path / "hidden.webm", change=hide)
    windows = find_windows(str(path), length=0.4, stride=0.4)
    clips = read_spans(path, [(w.first, w.stop) for w in windows], 3, num_frames=windows[-1].stop)
    assert {clip.num_frames for clip in clips} == {30}
    for window, clip in zip(windows, clips, strict=True):
        for frame in clip.frames:
            assert window.start <= frame_number(frame) / 25 + 1e-3
            assert frame_number(frame) / 25 < window.end


def test_frames_are_counted_where_packets_are_not_frames(video: Path, tmp_path: Path) -> None:
    """A stream that begins within a group of pictures loses the frames before the first start."""
    path = rewrap(video, tmp_path / "tail.ts", drop=5)
    shown = [frame_number(frame) for frame in decode_all(path)]
    windows = find_windows(str(path), length=0.4, stride=0.4)
    assert windows[-1].stop == len(shown)
    clips = read_spans(path, [(w.first, w.stop) for w in windows], 4, num_frames=windows[-1].stop)
    for window, clip in zip(windows, clips, strict=True):
        assert clip.num_frames == len(shown)
        assert [frame_number(frame) for frame in clip.frames] == [shown[i] for i in clip.indices]
        seconds = [(shown[i] - shown[0]) / 25 for i in clip.indices]
        assert all(window.start - 0.04 <= second < window.end for second in seconds)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_rate_and_end_come_from_the_times(suffix: str, tmp_path: Path) -> None:
    """Thirty frames in the first second, twenty in each of the two that follow."""
    path = tmp_path / f"phone.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(90):
            if i < 30 or i % 3 != 1:
                frame = av.VideoFrame.from_ndarray(numbered_frame(i, 128, 96), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 30)
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    stream = probe(str(path))
    assert stream.end == pytest.approx(3.0, abs=2e-3)
    assert stream.fps == pytest.approx(70 / 3, abs=0.02)
    clip = read_spans(path, [(0, None)], 6)[0]
    assert clip.num_frames / clip.fps == pytest.approx(3.0, abs=2e-3)


def test_what_cannot_be_read(broken_videos: dict[str, Path], video: Path) -> None:
    for path in broken_videos.values():
        if path.name != "damaged.mp4":  # its packets are whole
            with pytest.raises(VideoError):
                find_windows(str(path), length=1, stride=1)
    with pytest.raises(VideoError, match="there is no frame 50, the video has 40"):
        read_spans(video, [(0, 10), (50, 60)], 3)
