"""An inspection finds every fault that was put in, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import rewrap
from datasets import Dataset, concatenate_datasets
from PIL import Image

from vqathinker.data.dataset import load_labels
from vqathinker.data.inspection import Report, look_at, sum_up
from vqathinker.samples import Media, Sample, write_samples


def label(folder: Path, names: list[str], mos: float = 80.0) -> Dataset:
    """Label files of a folder."""
    path = folder / "set.csv"
    path.write_text("video,mos\n" + "".join(f"{name},{mos}\n" for name in names))
    return load_labels(path, video_dir=folder)


def inspect(rows: Dataset, *, num_workers: int = 2, decode: bool = True) -> Report:
    """The findings in a data set."""
    number = 6 if decode else 0
    looks = dict(zip(rows["path"], look_at(rows["path"], number, num_workers), strict=True))
    return sum_up(rows, looks, number)


@pytest.fixture
def folder(video: Path, broken_videos: dict[str, Path], tmp_path: Path) -> Path:
    """Two good files, one of them there twice, and broken ones."""
    shutil.copy(video, tmp_path / "good.mp4")
    shutil.copy(video, tmp_path / "copy.mp4")
    content = bytearray(video.read_bytes())
    content[-1] ^= 1  # equal size, other tail
    (tmp_path / "other.mp4").write_bytes(content)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "good.mp4")
    for name in ("empty", "text", "damaged", "audio"):
        shutil.copy(broken_videos[name], tmp_path / f"{name}.mp4")
    return tmp_path


def test_nothing_to_find(folder: Path) -> None:
    rows = label(folder, ["good.mp4", "other.mp4"])
    looks = look_at(rows["path"], num_keyframes=6, num_workers=2)
    assert [(look.num_frames > 0, look.frames.size) for look in looks] == [(True, 0)] * 2
    report = inspect(rows, num_workers=2)
    assert report == Report(num_videos=2, num_keyframes=6)
    assert report.is_clean


def test_everything_to_find(folder: Path) -> None:
    names = [
        "good.mp4",
        "gone.mp4",
        "empty.mp4",
        "text.mp4",
        "damaged.mp4",
        "audio.mp4",
        "copy.mp4",
        "link.mp4",
    ]
    report = inspect(label(folder, names))
    assert report.missing == {"set/gone.mp4": str(folder / "gone.mp4")}
    assert list(report.unreadable) == ["set/empty.mp4", "set/text.mp4", "set/damaged.mp4", "set/audio.mp4"]
    assert report.unreadable["set/empty.mp4"] == "the file is empty"
    assert report.duplicate_paths == [["set/good.mp4", "set/link.mp4"]]
    assert [set(group) for group in report.duplicate_contents] == [{"set/link.mp4", "set/copy.mp4"}]
    assert not report.is_clean
    assert report.counts() == {
        "videos": 8,
        "missing": 1,
        "unreadable": 4,
        "with lost frames": 0,
        "ids given twice": 0,
        "files listed twice": 1,
        "copies of a file": 1,
        "targets outside 1-5": 0,
        "files matched by stem": 0,
        "files matched despite their spelling": 0,
    }
    assert report.faults()["set/gone.mp4"] == f"no such file: {folder / 'gone.mp4'}"
    assert report.faults()["set/empty.mp4"] == "the file is empty"


def test_without_decoding_only_absence_shows(folder: Path) -> None:
    report = inspect(label(folder, ["good.mp4", "gone.mp4", "empty.mp4", "text.mp4"]), decode=False)
    assert list(report.missing) == ["set/gone.mp4"]
    assert report.unreadable == {"set/empty.mp4": "the file is empty"}
    assert report.num_keyframes == 0


def test_a_link_to_nowhere_is_missing_and_says_where_it_leads(folder: Path) -> None:
    (folder / "dangling.mp4").symlink_to("archive/a.mp4")
    report = inspect(label(folder, ["good.mp4", "dangling.mp4"]))
    path = folder / "dangling.mp4"
    assert report.faults() == {"set/dangling.mp4": f"a link to archive/a.mp4, which is not there: {path}"}


def test_lost_frames_are_counted(make_video: Callable[..., Path], tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", 30, codec="mpeg4", options={"g": "1"})

    def spoil(index: int, content: bytearray) -> bytearray:
        return bytearray(b"\xff" * len(content)) if index == 12 else content

    rewrap(whole, tmp_path / "spoilt.mp4", change=spoil)
    report = inspect(label(tmp_path, ["whole.mp4", "spoilt.mp4"]), num_workers=1)
    assert report.damaged == {"set/spoilt.mp4": 1}
    assert not report.unreadable
    assert report.counts()["with lost frames"] == 1


def test_raw_frames_are_unreadable_with_a_way_out(folder: Path) -> None:
    (folder / "pa2_25fps.yuv").write_bytes(bytes(96 * 64 * 3 // 2))
    report = inspect(label(folder, ["good.mp4", "pa2_25fps.yuv"]))
    assert list(report.unreadable) == ["set/pa2_25fps.yuv"]
    assert "wrap them: ffmpeg -f rawvideo" in report.unreadable["set/pa2_25fps.yuv"]


def test_ids_given_twice(folder: Path) -> None:
    rows = label(folder, ["good.mp4"])
    report = inspect(concatenate_datasets([rows, rows]), decode=False)
    assert report.duplicate_ids == ["set/good.mp4"]
    assert not report.is_clean


def test_targets_outside_the_scale_are_listed_and_only_most_are_a_fault(folder: Path) -> None:
    low = label(folder, ["good.mp4"], mos=10)
    report = inspect(concatenate_datasets([low, label(folder, ["other.mp4"])]), decode=False)
    assert report.out_of_scale == {"set/good.mp4": 0.5}
    assert report.is_clean
    report = inspect(low, decode=False)
    assert report.is_range_doubtful
    assert not report.is_clean


def test_the_report_is_json_and_never_overwritten_by_accident(tmp_path: Path) -> None:
    report = Report(num_videos=2, num_keyframes=6, unreadable={"s/ä.mp4": "the file is empty"})
    path = tmp_path / "report.json"
    report.write(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["unreadable"] == {"s/ä.mp4": "the file is empty"}
    assert content["counts"]["unreadable"] == 1
    assert content["is_clean"] is False
    with pytest.raises(FileExistsError):
        report.write(path)
    Report(num_videos=0, num_keyframes=6).write(path, overwrite=True)
    assert json.loads(path.read_text(encoding="utf-8"))["is_clean"] is True


def test_samples_of_one_file_are_no_copies(folder: Path) -> None:
    media = (Media("good.mp4"),)
    asked = [
        Sample("a", "set", media, target=3.0),
        Sample("b", "set", media, "question", "Is it sharp?", "yes"),
        Sample("c", "set", media, "question", "Is it noisy?", "no"),
    ]
    still = Sample("d", "set", (Media("still.png"),), target=9.0)
    Image.new("RGB", (64, 64)).save(folder / "still.png")
    write_samples(folder / "own.jsonl", [*asked, still])
    report = inspect(load_labels(folder / "own.jsonl", video_dir=folder))
    assert (report.unreadable, report.duplicate_paths, report.num_unscored) == ({}, [], 2)
    assert list(report.out_of_scale) == ["set/d"]
    assert report.is_clean
    write_samples(folder / "own.jsonl", [*asked, Sample("e", "set", media, target=3.0)])
    again = inspect(load_labels(folder / "own.jsonl", video_dir=folder))
    assert again.duplicate_paths == [["set/a", "set/e"]]
