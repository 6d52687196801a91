"""Folders and patterns become the videos in them; nothing that was meant is left out in silence."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import frame_number

from vqathinker.media.names import VIDEO_SUFFIXES
from vqathinker.media.search import find_videos
from vqathinker.media.video import VideoError, keyframe_indices, read_keyframes
from vqathinker.scoring.search import find_sources


def errors(found: list[str | VideoError]) -> dict[str, str]:
    return {error.path: error.reason for error in found if isinstance(error, VideoError)}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "suffix", [".MTS", ".ogv", ".vob", ".asf", ".3g2", ".mxf", ".qt", ".gif", *sorted(VIDEO_SUFFIXES)]
)
def test_suffixes(suffix: str, tmp_path: Path) -> None:
    touch(tmp_path, f"x{suffix}", f"deep/y{suffix.upper()}")
    assert find_videos([str(tmp_path)]) == [
        str(tmp_path / f"deep/y{suffix.upper()}"),
        str(tmp_path / f"x{suffix}"),
    ]


def test_what_is_left_out_of_a_folder_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "v/a.mp4", "v/a.srt", "v/b/b.mp4", "v/b/b.srt", "v/README", "v/._a.mp4", "v/.DS_Store")
    touch(tmp_path, "elsewhere/c.mp4")
    (tmp_path / "v" / "more").symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING):
        found = find_videos([str(tmp_path / "v")])
    assert found == [str(tmp_path / "v/a.mp4"), str(tmp_path / "v/b/b.mp4")]
    assert caplog.messages == [
        f"{tmp_path / 'v'}: 5 left out that are no videos by their names: 2 .srt, 1 hidden, "
        "1 linked folders (name them), 1 without suffix"
    ]
    caplog.clear()
    find_videos([str(tmp_path / "elsewhere")])
    assert not caplog.messages


def test_a_folder_without_videos_says_what_is_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.txt")
    assert errors(find_videos([str(tmp_path)])) == {
        str(
            tmp_path
        ): "the folder holds no video files; 3 left out that are no videos by their names: 2 .jpg, 1 .txt"
    }
    (tmp_path / "empty").mkdir()
    assert errors(find_videos([str(tmp_path / "empty")])) == {
        str(tmp_path / "empty"): "the folder holds no video files"
    }


@pytest.mark.parametrize("given", ["", "*", "b.mp4"])
def test_links_to_nowhere_are_errors_with_their_target(given: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").symlink_to("gone/b.mp4")
    found = find_videos([os.path.join(tmp_path, given)])
    path = str(tmp_path / "b.mp4")
    assert errors(found) == {path: "a link to gone/b.mp4, which is not there"}
    if given != "b.mp4":
        assert found[0] == str(tmp_path / "a.mp4")


def test_patterns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.mp4", "b.txt", "deep/c.mp4")
    assert find_videos([str(tmp_path / "*.mp4")]) == [str(tmp_path / "a.mp4")]
    assert find_videos([str(tmp_path / "**/*.mp4")]) == [
        str(tmp_path / "a.mp4"),
        str(tmp_path / "deep/c.mp4"),
    ]
    assert errors(find_videos([str(tmp_path / "*.mov")])) == {str(tmp_path / "*.mov"): "no file matches"}
    assert errors(find_videos([str(tmp_path / "de*")])) == {
        str(tmp_path / "de*"): "no file matches, 1 folders do: name one, or add /*"
    }
    assert not caplog.messages
    # a pattern says itself which files are meant, whatever their suffix
    assert find_videos([str(tmp_path / "*")]) == [str(tmp_path / "a.mp4"), str(tmp_path / "b.txt")]
    assert caplog.messages == [f"{tmp_path / '*'}: 1 folders left out"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every folder")
def test_a_closed_folder_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "closed/b.mp4")
    (tmp_path / "closed").chmod(0)
    found = find_videos([str(tmp_path)])
    (tmp_path / "closed").chmod(0o700)
    assert found[0] == str(tmp_path / "a.mp4")
    assert errors(found) == {str(tmp_path / "closed"): "the folder cannot be searched (Permission denied)"}


def test_raw_frames_have_a_way_out(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    source = make_video(tmp_path / "clip.mp4", 24, (160, 96))
    raw = tmp_path / "raw" / "clip.yuv"
    raw.parent.mkdir()
    with av.open(str(source)) as container, raw.open("wb") as file:
        for frame in container.decode(video=0):
            file.write(frame.to_ndarray(format="yuv420p").tobytes())
    for given in (raw, raw.parent, raw.parent / "*"):
        (reason,) = errors(find_videos([str(given)])).values()
        assert "raw frames, without a header" in reason
        assert "ffmpeg -f rawvideo -pix_fmt yuv420p -s WIDTHxHEIGHT -r FPS -i clip.yuv clip.y4m" in reason
    # what that command does
    options = {"pixel_format": "yuv420p", "video_size": "160x96", "framerate": "25"}
    wrapped = raw.with_suffix(".y4m")
    with (
        av.open(str(raw), format="rawvideo", options=options) as container,
        av.open(str(wrapped), "w") as output,
    ):
        stream = output.add_stream("wrapped_avframe", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for frame in container.decode(video=0):
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    assert find_videos([str(raw.parent)]) == [str(wrapped)]  # no error any more
    frames = read_keyframes(wrapped, 6).frames
    assert [frame_number(frame) for frame in frames] == list(keyframe_indices(24, 6))


def test_what_is_one_video(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "[b].mp4")
    one = [
        np.zeros((1, 2, 2, 3), np.uint8),
        tmp_path / "a.mp4",
        f"{tmp_path}/[b].mp4",
        "gone.mp4",
        "clip.yuv",
    ]
    assert [find_sources(source).is_single for source in one] == [True] * 5
    several = (tmp_path, f"{tmp_path}/*.mp4", ["a.mp4"])
    assert [find_sources(source).is_single for source in several] == [False] * 3
