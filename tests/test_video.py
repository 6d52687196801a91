"""Frames come from where they are asked for, whatever the file; everything else is one kind of error."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from conftest import decode_all, frame_number
from hypothesis import given
from hypothesis import strategies as st

from vqathinker.media.container import VideoError, probe
from vqathinker.media.video import keyframe_indices, orient, read_keyframes

MakeVideo = Callable[..., Path]

# name, settings, whether decord can be trusted with the file
KINDS = [
    ("plain.mp4", {}, True),
    ("plain.mkv", {}, True),
    ("bframes.mp4", {"options": {"bf": "3", "g": "250"}}, True),
    ("open.mp4", {"options": {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0:scenecut=0"}}, False),
    ("bframes.avi", {"options": {"bf": "2", "g": "12"}}, False),
    ("bframes.ts", {"options": {"bf": "2", "g": "12"}}, False),
    ("odd.avi", {"codec": "mpeg4", "fps": 30}, False),
    ("fragments.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}, True),
]


def expected_indices(num_frames: int, num_keyframes: int) -> list[int]:
    """The formula in exact fractions, with Python's own rounding of halves to even."""
    step = Fraction(num_frames - 1, num_keyframes)
    return [floor(step / 2 + round(step * i)) for i in range(num_keyframes)]


@given(st.integers(1, 100_000), st.integers(1, 64))
def test_indices_stay_inside_and_in_order(num_frames: int, num_keyframes: int) -> None:
    indices = keyframe_indices(num_frames, num_keyframes)
    assert indices.shape == (num_keyframes,)
    assert indices.dtype == np.int64
    assert indices[0] >= 0
    assert indices[-1] < num_frames
    assert (np.diff(indices) >= 0).all()
    assert np.abs(indices - np.linspace(0, num_frames - 1, 2 * num_keyframes + 1)[1::2]).max() <= 1.5


@given(st.integers(1, 5_000), st.sampled_from([1, 2, 4, 6, 8, 12, 16, 32]))
def test_indices_follow_the_formula(num_frames: int, num_keyframes: int) -> None:
    expected = expected_indices(num_frames, num_keyframes)
    assert np.abs(keyframe_indices(num_frames, num_keyframes) - expected).max() <= (num_keyframes % 3 == 0)


@pytest.mark.parametrize(
    ("num_frames", "num_keyframes", "expected"),
    [
        (1, 3, [0, 0, 0]),
        (4, 6, [0, 0, 1, 2, 2, 2]),
        (240, 6, [19, 59, 99, 139, 178, 218]),
        (250, 6, [20, 62, 103, 144, 186, 228]),
        (11, 4, [1, 3, 6, 9]),
    ],
)
def test_indices_by_hand(num_frames: int, num_keyframes: int, expected: list[int]) -> None:
    assert keyframe_indices(num_frames, num_keyframes).tolist() == expected


@pytest.mark.parametrize(("num_frames", "num_keyframes"), [(0, 6), (6, 0), (-1, 1)])
def test_indices_need_something_to_take(num_frames: int, num_keyframes: int) -> None:
    with pytest.raises(ValueError, match=f"cannot take {num_keyframes} keyframes of {num_frames} frames"):
        keyframe_indices(num_frames, num_keyframes)


@pytest.mark.parametrize(("name", "settings", "indexable"), KINDS, ids=[kind[0] for kind in KINDS])
def test_exact_frames(
    name: str, settings: dict, indexable: bool, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = make_video(tmp_path / name, 40, **settings)
    assert probe(str(path)).indexable is indexable
    clip = read_keyframes(path, 6)
    assert [frame_number(frame) for frame in clip.frames] == clip.indices.tolist() == expected_indices(40, 6)
    np.testing.assert_array_equal(clip.frames, decode_all(path)[clip.indices])
    assert clip.num_frames == 40
    assert clip.fps == settings.get("fps", 25)
    assert clip.path == str(path)
    assert clip.frames.flags.c_contiguous


def test_a_container_without_times_would_mislead_decord(make_video: MakeVideo, tmp_path: Path) -> None:
    import decord

    path = make_video(tmp_path / "open.mp4", 40, options=KINDS[3][1]["options"])
    frames = decord.VideoReader(str(path), num_threads=1).get_batch([2, 14, 33]).asnumpy()
    assert [frame_number(frame) for frame in frames] != [2, 14, 33]  # once decord is right, `probe` can relax


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_upright(rotation: int, mirror: bool, make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "phone.mp4", 3, rotation=rotation, mirror=mirror)
    stored = decode_all(path)
    upright = np.rot90(stored, rotation // 90, axes=(1, 2))
    expected = upright[:, :, ::-1] if mirror else upright
    clip = read_keyframes(path, 3)
    np.testing.assert_array_equal(clip.frames, expected[clip.indices])


def test_orient_moves_a_corner() -> None:
    frames = np.zeros((1, 2, 3, 3), np.uint8)
    frames[0, 0, 0] = 1
    corners = {(1, 0, 0, 1): (0, 0), (-1, 0, 0, 1): (0, 2), (1, 0, 0, -1): (1, 0), (-1, 0, 0, -1): (1, 2)}
    corners |= {(0, 1, 1, 0): (0, 0), (0, 1, -1, 0): (0, 1), (0, -1, 1, 0): (2, 0), (0, -1, -1, 0): (2, 1)}
    for orientation, corner in corners.items():
        turned = orient(frames, orientation)[0, :, :, 0]
        assert tuple(np.argwhere(turned)[0]) == corner, orientation


def test_short_videos_repeat_and_say_so_once(
    make_video: MakeVideo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_video(tmp_path / "one.mp4", 1)
    with caplog.at_level(logging.WARNING):
        clips = [read_keyframes(path, 6) for _ in range(2)]
    assert [clip.indices.tolist() for clip in clips] == [[0] * 6] * 2
    assert clips[0].frames.shape == (6, 96, 128, 3)
    assert caplog.messages == [f"{path}: 1 frames for 6 keyframes, some are repeated"]


FAULTS = {
    "missing": "no such file",
    "empty": "the file is empty",
    "folder": "not a file",
    "text": "cannot be decoded (Invalid data found",
    "headless": "cannot be decoded (Invalid data found",
    "cut": "the file ends after ",
    "cut_matroska": "the file ends after ",
    "damaged": "cannot be decoded (Invalid data found",
    "audio": "the file has no video stream",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str, broken_videos: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VideoError) as caught:
        read_keyframes(broken_videos[fault], 6)
    assert caught.value.path == str(broken_videos[fault])
    assert caught.value.reason.startswith(FAULTS[fault])
    assert str(caught.value) == f"{caught.value.path}: {caught.value.reason}"
    assert capfd.readouterr().err == ""


def test_errors_pickle() -> None:
    error = pickle.loads(pickle.dumps(VideoError("a.mp4", "no such file")))
    assert (type(error), error.path, error.reason, str(error)) == (
        VideoError,
        "a.mp4",
        "no such file",
        "a.mp4: no such file",
    )


def test_no_keyframes_is_the_callers_mistake(video: Path) -> None:
    with pytest.raises(ValueError, match="cannot take 0 keyframes"):
        read_keyframes(video, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the entries of /proc")
def test_no_file_stays_open(video: Path, broken_videos: dict[str, Path]) -> None:
    def open_files() -> int:
        return sum(os.path.isfile(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))

    before = open_files()
    for path in (video, *broken_videos.values()):
        with suppress(VideoError):
            read_keyframes(path, 6)
    assert open_files() == before


def test_silent_in_a_fresh_process(video: Path, broken_videos: dict[str, Path]) -> None:
    paths = [str(path) for path in (video, *broken_videos.values())]
    code = f"""
from vqathinker.media.video import VideoError, read_keyframes
for path in {paths!r}:
    try:
        read_keyframes(path, 6)
    except VideoError:
        print("unreadable")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("unreadable\n" * len(broken_videos), "")
