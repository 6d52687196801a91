"""Validation holds no training video unless that is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vqathinker.data.dataset import load_labels
from vqathinker.data.overlap import find_overlap
from vqathinker.training.setup import DataConfig, load_sets


@pytest.fixture
def videos(make_video: Callable[..., Path], tmp_path: Path) -> Path:
    """Four clips, a link to the first and a copy of the second."""
    for index in range(4):
        make_video(tmp_path / f"{index}.mp4", 10 + index, (64, 48))
    (tmp_path / "linked.mp4").symlink_to("0.mp4")
    (tmp_path / "copied.mp4").write_bytes((tmp_path / "1.mp4").read_bytes())
    return tmp_path


def write(folder: Path, name: str, *videos: str) -> str:
    path = folder / name
    path.write_text("video,mos\n" + "".join(f"{video},50\n" for video in videos))
    return str(path)


def test_links_and_copies_are_the_same_video(videos: Path) -> None:
    train = load_labels(write(videos, "train.csv", "0.mp4", "1.mp4", "gone.mp4"), video_dir=videos)
    names = ["linked.mp4", "copied.mp4", "2.mp4", "./gone.mp4"]
    overlap = find_overlap(load_labels(write(videos, "eval.csv", *names), video_dir=videos), train)
    assert overlap.same_file == ["linked.mp4", "./gone.mp4"]
    assert overlap.same_content == [("copied.mp4", "1.mp4")]
    assert len(overlap) == 3
    assert overlap.describe() == (
        "3 of 4 validation videos are training videos too: "
        "linked.mp4, ./gone.mp4, copied.mp4 (a copy of 1.mp4)"
    )
    assert not find_overlap(load_labels(write(videos, "eval.csv", "2.mp4"), video_dir=videos), train)


def test_files_of_one_size_are_not_yet_copies(videos: Path) -> None:
    for size, place in ((None, -1), (300_000, 150_000)):  # raw frames often begin and end alike
        content = bytearray((videos / "1.mp4").read_bytes() if size is None else size)
        (videos / "one.mp4").write_bytes(content)
        content[place] ^= 1
        (videos / "other.mp4").write_bytes(content)
        train = load_labels(write(videos, "train.csv", "one.mp4"), video_dir=videos)
        rows = load_labels(write(videos, "eval.csv", "other.mp4"), video_dir=videos)
        assert not find_overlap(rows, train)


def test_shared_videos_are_refused_or_said(videos: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = DataConfig(
        train_labels=write(videos, "train.csv", "0.mp4", "1.mp4"),
        train_videos=str(videos),
        eval_labels=write(videos, "eval.csv", "1.mp4", "2.mp4", "3.mp4"),
    )
    with pytest.raises(ValueError, match=r"1 of 3 validation videos are training videos too: 1\.mp4; .*"):
        load_sets(data, max_missing=0)
    data.allow_overlap = True
    train, validation = load_sets(data, max_missing=0)
    assert (len(train), len(validation or ())) == (2, 3)
    assert "1 of 3 validation videos are training videos too" in caplog.text


SPLITS = "video,mos,split\n0.mp4,10,train\n1.mp4,20,test\n2.mp4,30,train\n3.mp4,40,val\n"
IS_TEST = "name,mos,is_test\n0,10,False\n1,20,1\n2,30,false\n3,40,True\n"


@pytest.mark.parametrize("text", [SPLITS, IS_TEST], ids=["split", "is_test"])
def test_one_file_with_splits_validates_with_the_other_rows(text: str, videos: Path) -> None:
    labels = videos / "labels.csv"
    labels.write_text(text)
    os.symlink(labels, videos / "again.csv")  # another name of the same file
    for name in ("labels.csv", "again.csv"):
        data = DataConfig(train_labels=str(labels), train_videos=str(videos), eval_labels=str(videos / name))
        train, validation = load_sets(data, max_missing=0)
        assert validation is not None
        assert list(train["mos"]) == [10, 30]
        assert list(validation["mos"]) == [20, 40]
    data.train_split = ""  # every row trains
    with pytest.raises(ValueError, match="4 of 4 validation videos are training videos"):
        load_sets(data, max_missing=0)
    data.train_split, data.eval_split = "train", "train"
    with pytest.raises(ValueError, match="2 of 2 validation videos are training videos"):
        load_sets(data, max_missing=0)


def test_a_file_of_training_rows_alone_has_nothing_to_validate_with(videos: Path) -> None:
    labels = videos / "labels.csv"
    labels.write_text("video,mos,split\n0.mp4,10,train\n1.mp4,20,train\n")
    data = DataConfig(train_labels=str(labels), train_videos=str(videos), eval_labels=str(labels))
    with pytest.raises(ValueError, match="marks no rows outside split 'train'; give other eval_labels"):
        load_sets(data, max_missing=0)
