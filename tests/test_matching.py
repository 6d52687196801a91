"""Files are found by their stem where nothing else can be meant, and never otherwise."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from vqathinker.data.dataset import load_labels, read_labels
from vqathinker.data.matching import Matches, match


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "files", "by_stem", "ambiguous"),
    [
        (["a.mp4"], ["a.mp4", "x/a.mov"], {}, []),
        (["a.mp4", "b.mp4"], ["a.MKV", "b.mp4"], {"a.mp4": "a.MKV"}, []),
        (["Video/a.mp4"], ["LIVE/a.mp4"], {"Video/a.mp4": "LIVE/a.mp4"}, []),
        (["a_t_20.0.mp4"], ["a_t_20.0.webm", "a_t_20.mp4"], {"a_t_20.0.mp4": "a_t_20.0.webm"}, []),
        (["a.mp4"], ["x/a.mp4", "y/a.mp4"], {}, ["a.mp4"]),
        (["a.mp4"], ["a.txt", "a.csv", "b.mov", "b/a"], {}, []),  # no videos, another stem
        (["a"], ["a.mp4", "a/x.mp4"], {"a": "a.mp4"}, []),  # a folder is no video
        (["x/a.png"], ["y/a.png", "a.jpg"], {"x/a.png": "y/a.png"}, []),  # pictures, by their whole name
        (["a.mp4", "a.mov"], ["a.mkv"], {}, ["a.mp4", "a.mov"]),  # two names, one file
        (["a.mp4", "a.mov"], ["a.mov"], {}, []),  # the file has its own name
        # folders tell videos apart as soon as there are several
        (["p/1.mp4", "q/1.mp4"], ["p/1.mov", "q/1.mov"], {"p/1.mp4": "p/1.mov", "q/1.mp4": "q/1.mov"}, []),
        (["p/1.mp4", "q/2.mp4"], ["q/1.mp4", "q/2.mp4"], {}, []),
        (["p/1.mp4", "q/2.mp4"], ["r/p/1.mp4", "2.mp4"], {"p/1.mp4": "r/p/1.mp4", "q/2.mp4": "2.mp4"}, []),
        (["p/1.mp4", "q/1.mp4"], ["1.mp4"], {}, ["p/1.mp4", "q/1.mp4"]),
    ],
)  # fmt: skip
def test_matches(
    names: list[str], files: list[str], by_stem: dict[str, str], ambiguous: list[str], tmp_path: Path
) -> None:
    found = match(names, touch(tmp_path, *files))
    assert found.by_stem == {name: str(tmp_path / file) for name, file in by_stem.items()}
    assert sorted(found.ambiguous) == sorted(ambiguous)


NFC, NFD = "K\u00e4se", "Ka\u0308se"


@pytest.mark.parametrize(
    ("names", "files", "by_spelling", "ambiguous"),
    [
        ([f"{NFC}.mp4"], [f"{NFD}.mp4"], {f"{NFC}.mp4": f"{NFD}.mp4"}, []),
        ([f"{NFD}.mp4"], [f"{NFC}.mov"], {f"{NFD}.mp4": f"{NFC}.mov"}, []),
        ([f"{NFC}/1.mp4", "b/1.mp4"], [f"{NFD}/1.mp4"], {f"{NFC}/1.mp4": f"{NFD}/1.mp4"}, []),
        (["clip3.mp4"], ["Clip3.mp4"], {"clip3.mp4": "Clip3.mp4"}, []),
        (["P0.PNG"], ["p0.png"], {"P0.PNG": "p0.png"}, []),
        (["A/1.mp4", "b/1.mp4"], ["a/1.mp4", "B/1.MOV"], {"A/1.mp4": "a/1.mp4", "b/1.mp4": "B/1.MOV"}, []),
        (["win\\a\\1.mp4", "win\\b\\1.mp4"], ["a/1.mp4"], {"win\\a\\1.mp4": "a/1.mp4"}, []),
        (["C:\\data\\1.mp4"], ["1.mp4"], {"C:\\data\\1.mp4": "1.mp4"}, []),
        (["my%20clip.mp4"], ["my clip.mp4"], {"my%20clip.mp4": "my clip.mp4"}, []),
        (["my%20clip.mp4"], ["my%20clip.mp4", "my clip.mp4"], {}, []),  # its own file
        (["50%.mp4"], ["50%.MP4", "50.mp4"], {}, []),  # by its stem
        (["clip.mp4"], ["Clip.mp4", "CLIP.mp4"], {}, ["clip.mp4"]),  # two files
        (["Clip.mp4", "CLIP.mp4"], ["clip.mp4"], {}, ["CLIP.mp4", "Clip.mp4"]),  # two names
        (["clip.mp4", "CLIP.mp4"], ["clip.mov"], {}, []),  # the file has one name's stem and is taken
        (["clip.mp4", "CLIP.mp4"], ["clip.mp4"], {}, []),  # the file has its own name
        (["pa2_25fps.yuv"], ["pa2_25fps.mp4"], {}, []),  # raw frames, wrapped: by its stem
    ],
)
def test_matches_despite_their_spelling(
    names: list[str], files: list[str], by_spelling: dict[str, str], ambiguous: list[str], tmp_path: Path
) -> None:
    found = match(names, touch(tmp_path, *files))
    assert found.by_spelling == {name: str(tmp_path / file) for name, file in by_spelling.items()}
    assert sorted(found.ambiguous) == sorted(ambiguous)


def test_another_spelling_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = tmp_path / "set.csv"
    labels.write_text(f"video,mos\n{NFC}.mp4,3\n", encoding="utf-8")
    touch(tmp_path / "v", f"{NFD}.mp4")
    with caplog.at_level(logging.WARNING):
        rows = load_labels(labels, video_dir=tmp_path / "v")
    assert rows["path"][:] == [str(tmp_path / "v" / f"{NFD}.mp4")]
    assert rows["video_id"][:] == [f"{NFC}.mp4"]
    assert caplog.messages == [
        f"1 videos matched despite their spelling: {NFC}.mp4 is {tmp_path / 'v' / NFD}.mp4"
    ]


def test_a_link_to_nowhere_is_no_candidate(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.mp4")
    (tmp_path / "a.mov").symlink_to("gone.mov")
    assert match(["a.avi"], tmp_path).by_stem == {"a.avi": str(tmp_path / "x/a.mp4")}


def test_lines() -> None:
    assert Matches().lines() == []
    matches = Matches({f"{i}.mp4": f"v/{i}.mov" for i in range(5)}, {"a.mp4": ["x/a.mp4", "y/a.mp4"]})
    assert matches.lines() == [
        "5 videos matched by stem: 0.mp4 is v/0.mov; 1.mp4 is v/1.mov; 2.mp4 is v/2.mov; ...",
        "1 names are ambiguous and have no file: a.mp4 could be x/a.mp4 or y/a.mp4",
    ]


def test_rows_get_the_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = tmp_path / "set.csv"
    labels.write_text("name,mos,is_test\nia/1,3,True\nia/2,4,True\nia/3,5,True\n")
    videos = touch(tmp_path / "v", "ia/1.mp4", "deep/ia/2.mkv")
    with caplog.at_level(logging.WARNING):
        rows = load_labels(labels, video_dir=videos)
        load_labels(labels, video_dir=videos)
    assert rows["path"][:] == [f"{videos}/{name}" for name in ("ia/1.mp4", "deep/ia/2.mkv", "ia/3.mp4")]
    assert rows["video_id"][:] == ["ia/1", "ia/2", "ia/3"]
    assert rows.column_names.index("path") == 3
    assert caplog.messages == [f"1 videos matched by stem: ia/2.mp4 is {videos}/deep/ia/2.mkv"]  # once
    assert list(read_labels(labels, videos).matches.by_stem) == ["ia/2.mp4"]
    assert load_labels(labels)["path"][1] == "./ia/2.mp4"  # no folder is given, none is searched
