"""Files are found by their stem where nothing else can be meant, and never otherwise."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from vqathinker.media.dataset import load_labels
from vqathinker.media.matching import Matches, match


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
        (["a.mp4"], ["a.txt", "a.csv", "A.mov", "b/a"], {}, []),  # no videos, another stem
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
    seen: list[Matches] = []
    load_labels(labels, video_dir=videos, on_match=seen.append)
    assert list(seen[0].by_stem) == ["ia/2.mp4"]
    assert load_labels(labels)["path"][1] == "./ia/2.mp4"  # no folder is given, none is searched
