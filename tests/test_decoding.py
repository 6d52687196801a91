"""Some lost frames are counted and stood in for; too many refuse the file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import frame_number, rewrap

from vqathinker.media.container import VideoError
from vqathinker.media.decoding import MAX_LOST, decode_frames, frame_times
from vqathinker.media.video import read_keyframes, read_spans
from vqathinker.media.windows import find_windows

MakeVideo = Callable[..., Path]


def spoil(source: Path, path: Path, lost: set[int]) -> Path:
    """Overwrite some frames with what no decoder takes."""

    def change(index: int, content: bytearray) -> bytearray:
        return bytearray(b"\xff" * len(content)) if index in lost else content

    return rewrap(source, path, change=change)


@pytest.fixture
def intra(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Thirty frames that stand alone: a lost one harms no other."""
    return make_video(tmp_path / "intra.mp4", 30, codec="mpeg4", options={"g": "1"})


@pytest.mark.parametrize("lost", [1, 12, 28])
def test_one_lost_frame_of_thirty(
    lost: int, intra: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = spoil(intra, tmp_path / "spoilt.mp4", {lost})
    with caplog.at_level(logging.WARNING):
        clip = read_keyframes(path, 30)
    shown = [frame_number(frame) for frame in clip.frames]
    wanted = clip.indices.tolist()
    assert shown == [lost - 1 if index == lost else index for index in wanted]
    assert (clip.num_frames, clip.num_lost) == (30, 1)
    assert caplog.messages[-1] == f"{path}: 1 frames cannot be decoded; the rest is used"


def test_a_lost_first_frame(intra: Path, tmp_path: Path) -> None:
    """A file that begins with none that can be shown begins with the one after it."""
    clip = read_keyframes(spoil(intra, tmp_path / "spoilt.mp4", {0}), 6)
    assert [frame_number(frame) for frame in clip.frames] == [i + 1 for i in clip.indices.tolist()]
    assert (clip.num_frames, clip.num_lost) == (29, 1)


def test_the_codecs_that_depend_on_frames_before(make_video: MakeVideo, tmp_path: Path) -> None:
    for codec in ("libx264", "mpeg4", "libvpx-vp9"):
        source = make_video(tmp_path / f"{codec}.mp4", 40, codec=codec)
        clip = read_keyframes(spoil(source, tmp_path / f"spoilt {codec}.mp4", {17}), 6)
        assert clip.num_frames == 40
        assert clip.num_lost == 1
        later = [frame_number(frame) for frame, i in zip(clip.frames, clip.indices, strict=True) if i > 24]
        assert later == [i for i in clip.indices.tolist() if i > 24]


def test_too_many_lost(intra: Path, tmp_path: Path) -> None:
    assert read_keyframes(spoil(intra, tmp_path / "a.mp4", {4, 9, 14}), 6).num_lost == 3 <= MAX_LOST * 30
    with pytest.raises(VideoError, match=r"cannot be decoded \(.*: 4 of \d+ frames are lost\)"):
        read_keyframes(spoil(intra, tmp_path / "b.mp4", {4, 9, 14, 19}), 6)
    with pytest.raises(VideoError, match="cannot be decoded"):
        read_keyframes(spoil(intra, tmp_path / "c.mp4", set(range(30))), 6)


def test_windows_keep_their_seconds_where_a_frame_is_lost(intra: Path, tmp_path: Path) -> None:
    path = spoil(intra, tmp_path / "spoilt.mp4", {3})
    windows = find_windows(str(path), length=0.4, stride=0.4)  # 25 frames per second
    clips = read_spans(path, [(w.first, w.stop) for w in windows], 3, num_frames=windows[-1].stop)
    assert [frame_number(clip.frames[0]) for clip in clips] == [1, 11, 21]
    assert {clip.num_frames for clip in clips} == {30}


def test_without_times_the_frames_that_are_there_are_counted(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video(tmp_path / "intra.avi", 30, codec="mpeg4", options={"g": "1"})
    path = spoil(source, tmp_path / "spoilt.avi", {12})
    clip = read_keyframes(path, 29)
    assert [frame_number(frame) for frame in clip.frames] == [i if i < 12 else i + 1 for i in clip.indices]
    assert (clip.num_frames, clip.num_lost) == (29, 1)
    assert len(frame_times(str(path))) == 29


def test_decoding_ends_with_the_last_wanted_frame(intra: Path, tmp_path: Path) -> None:
    path = str(spoil(intra, tmp_path / "spoilt.mp4", {20}))
    assert decode_frames(path, {5}, lambda frame: frame, num_frames=30).num_lost == 0
    decoded = decode_frames(path, {5}, lambda frame: frame)
    assert (decoded.num_frames, decoded.num_lost) == (29, 1)
    assert list(decoded.frames) == [5]
    np.testing.assert_array_equal(decoded.frames[5], read_keyframes(intra, 30).frames[5])
