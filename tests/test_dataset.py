"""Label files of four formats become the same rows; whatever cannot be right is named."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker.data.dataset import load_labels
from vqathinker.samples import Media, Sample, write_samples
from vqathinker.scale import SCALES

FASTVQA = "yfcc-batch1/725.mp4, -1, -1, 76.84375\nKoNViD, part 2/7.mp4, 8.008, 29.97, 15\n"
LSVQ = (
    "name,p1,height,mos,frame_number,is_test\n"
    "yfcc-batch1/725,0,540,76.84375,240,False\n"
    "ia/v.1,0,720,15,99,True\n"
)
OWN = "video,mos,lab,dataset\na.mp4,4.5,north,phones\n\nb.MOV,1,south,phones\na.mp4,2,north,drones\n"
SCORES = {
    "annotations": [
        {"image_id": "A.mp4", "ann_type": "score", "score": "67.75"},
        {"image_id": "B.mp4", "ann_type": "score", "score": "3"},
    ]
}
OWN_COLUMNS = ["prompt", "video_id", "dataset", "path", "mos", "mos_low", "mos_high", "target"]


def write(folder: Path, text: str, name: str = "set.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_fastvqa(tmp_path: Path) -> None:
    rows = load_labels(write(tmp_path, FASTVQA, "LSVQ.txt"), video_dir="/videos")
    assert rows.column_names == OWN_COLUMNS
    assert rows[0] == {
        "prompt": "LSVQ/yfcc-batch1/725.mp4",
        "video_id": "yfcc-batch1/725.mp4",
        "dataset": "LSVQ",
        "path": "/videos/yfcc-batch1/725.mp4",
        "mos": 76.84375,
        "mos_low": 0.0,
        "mos_high": 100.0,
        "target": 76.84375 / 20,
    }
    assert rows[1]["video_id"] == "KoNViD, part 2/7.mp4"
    assert rows[1]["target"] == 0.75


def test_json_scores_are_strings(tmp_path: Path) -> None:
    rows = load_labels(write(tmp_path, json.dumps(SCORES, indent=4)), dataset="live")
    assert rows["prompt"][:] == ["live/A.mp4", "live/B.mp4"]
    assert rows["mos"][:] == [67.75, 3.0]


@pytest.mark.parametrize(("split", "names"), [("train", ["yfcc-batch1/725"]), ("test", ["ia/v.1"])])
def test_lsvq_splits(split: str, names: list[str], tmp_path: Path) -> None:
    rows = load_labels(write(tmp_path, LSVQ), video_dir="d", split=split)
    assert rows["video_id"][:] == names
    assert rows["path"][:] == [f"d/{name}.mp4" for name in names]
    assert rows.column_names == [*OWN_COLUMNS, "p1", "height", "frame_number", "is_test"]


def test_lsvq_names_may_have_a_suffix(tmp_path: Path) -> None:
    text = LSVQ.replace("yfcc-batch1/725", "yfcc-batch1/725.mp4")
    assert load_labels(write(tmp_path, text))["path"][:] == ["./yfcc-batch1/725.mp4", "./ia/v.1.mp4"]


def test_own_csv_keeps_other_columns(tmp_path: Path) -> None:
    rows = load_labels(write(tmp_path, "\ufeff" + OWN), mos_range=(1, 5))
    assert rows["prompt"][:] == ["phones/a.mp4", "phones/b.MOV", "drones/a.mp4"]
    assert rows["lab"][:] == ["north", "south", "north"]
    assert rows["target"][:] == rows["mos"][:] == [4.5, 1.0, 2.0]


def test_own_csv_with_its_own_ranges_and_splits(tmp_path: Path) -> None:
    text = "video,mos,mos_low,mos_high,split\na.mp4,80,0,100,val\nb.mp4,4,1,5,train\nc.mp4,4,1,7,val\n"
    path = write(tmp_path, text)
    rows = load_labels(path, scale="affine", split="val")
    assert rows["video_id"][:] == ["a.mp4", "c.mp4"]
    assert rows["mos_high"][:] == [100.0, 7.0]
    assert rows["target"][:] == pytest.approx([4.2, 3.0])


def test_the_format_can_be_given(tmp_path: Path) -> None:
    text = "mos,of video,a,4\n"  # by its first line a table
    assert load_labels(write(tmp_path, text), label_format="fastvqa")["video_id"][:] == ["mos"]
    with pytest.raises(ValueError, match="line 1: no column names the videos among mos, of video, a, 4"):
        load_labels(write(tmp_path, text))


def test_absolute_names_ignore_the_folder(tmp_path: Path) -> None:
    assert load_labels(write(tmp_path, "video,mos\n/x/a.mp4,3\n"), video_dir="d")["path"][:] == ["/x/a.mp4"]


@pytest.mark.parametrize(
    ("scale", "mos_range", "mos", "target"),
    [
        ("divide", (0, 100), [10, 50, 100], [0.5, 2.5, 5]),
        ("clip", (0, 100), [10, 50, 100], [1, 2.5, 5]),
        ("affine", (0, 100), [0, 50, 100], [1, 3, 5]),
        ("divide", (1, 5), [1, 3.3, 5], [1, 3.3, 5]),
        ("affine", (1, 5), [1, 3.3, 5], [1, 3.3, 5]),
        ("affine", (-2, 2), [-2, 0, 1], [1, 3, 4]),
        ("divide", (0, 10), [9], [4.5]),
    ],
)
def test_scales(
    scale: str, mos_range: tuple[float, float], mos: list[float], target: list[float], tmp_path: Path
) -> None:
    text = "video,mos\n" + "".join(f"{i}.mp4,{value}\n" for i, value in enumerate(mos))
    rows = load_labels(write(tmp_path, text), mos_range=mos_range, scale=scale)
    assert rows["target"][:] == pytest.approx(target)
    assert rows["mos"][:] == mos


@given(st.floats(-50, 50), st.floats(1, 100), st.lists(st.floats(0, 1), min_size=1))
def test_scales_keep_the_order(low: float, width: float, places: list[float]) -> None:
    mos = np.sort(low + width * np.array(places))
    for name, scale in SCALES.items():
        high = np.full_like(mos, low + width if name == "affine" else max(low + width, 1.0))
        assert (np.diff(scale(mos, np.full_like(mos, low), high)) >= -1e-9).all(), name


def test_lsvq_size_loads_fast(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).uniform(2, 95, 28_056).tolist()
    lines = [f"batch{i % 24}/{i}.mp4, -1, -1, {mos}\n" for i, mos in enumerate(scores)]
    path = write(tmp_path, "".join(lines))
    load_labels(write(tmp_path, lines[0], "one.txt"))  # what is imported on demand is not timed
    start = time.perf_counter()
    assert load_labels(path).num_rows == 28_056
    assert time.perf_counter() - start < 5  # well under 1 s on an idle core


VIDEOS = "video,mos\na.mp4,3\nb.mp4,{}\n"
FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "nan": (VIDEOS.format("nan"), {}, "line 3: b.mp4: the MOS is 'nan'; correct or remove the line"),
    "infinite": (VIDEOS.format("inf"), {}, "line 3: b.mp4: the MOS is 'inf'; correct"),
    "word": (VIDEOS.format("good"), {}, "line 3: b.mp4: the MOS 'good' is not a number; correct it"),
    "blank": (VIDEOS.format(""), {}, r"line 3: b.mp4: the MOS is blank \(1 of 2 are\); fill it in or remove"),
    "unlabelled": (
        "filename,score\ntest/1.mp4,\ntest/2.mp4,\n",
        {},
        r"line 2: test/1.mp4: the MOS is blank \(2 of 2 are\)",
    ),
    "decimal comma": (
        "video;mos\na.mp4;3,5\n",
        {},
        "line 2: a.mp4: the MOS '3,5' is not a number; write 3.5 with a decimal point",
    ),
    "above": (
        VIDEOS.format("31"),
        {"mos_range": (1, 5)},
        r"line 3: b.mp4: the MOS 31 lies outside 1 to 5 \(1 of 2 do\); give the native range",
    ),
    "twice": (
        "a.mp4, -1, -1, 3\n\na.mp4, -1, -1, 4\n",
        {},
        "line 3: a.mp4: already labelled in line 1; remove one",
    ),
    "twice by name": (OWN, {"dataset": "all"}, "line 5: a.mp4: already labelled in line 2"),
    "empty": ("", {}, "no labels in the file"),
    "white": (" \n\n", {}, "no labels in the file"),
    "header only": ("video,mos\n", {}, "no labels in the file"),
    "no annotations": ('{"annotations": []}', {}, "no labels in the file"),
    "prose": (
        "these are my labels\n",
        {},
        "line 1: no column names the videos among these are my labels; say which is: --video-column",
    ),
    "format": (
        OWN,
        {"label_format": "xml"},
        "unknown label format 'xml', choose one of csv, lsvq, fastvqa, json, jsonl",
    ),
    "column": (
        "video,fps\na.mp4,3\n",
        {},
        r"line 1: no column is a MOS by its name among video, fps; say which is: --mos-column \(mos_column\)",
    ),
    "same columns": ("video,mos,x,x\na.mp4,3,1,2\n", {}, "line 1: two columns share a name"),
    "fields": (
        "video,mos\na.mp4,3,4\n",
        {},
        r"line 2: 3 fields under 2 columns; .* \(a decimal comma\? write 3.4\)",
    ),
    "reserved": ("video,mos,path\na.mp4,3,x\n", {}, "the column 'path' is made by the reader; rename it"),
    "commas": (",,\n", {"label_format": "csv"}, "no labels in the file"),
    "huge": ("video,mos\n" + "a" * 140_000 + ",3\n", {}, "line 2: no valid CSV"),
    "unnamed": ("video,mos\n,3\n", {}, "line 2: the name of the video is empty"),
    "short line": (
        "a.mp4, -1, -1, 3\nb.mp4, 3\n",
        {},
        "line 2: 2 fields instead of path, duration, fps, MOS",
    ),
    "broken json": ('{"annotations": [\n{]}', {}, "line 2: no valid JSON"),
    "other json": ('{"labels": "none"}', {}, "the JSON object holds labels and no list of labels"),
    "json list": ("[1, 2]", {}, "the JSON is no list of labels; write"),
    "json keys": (
        '{"annotations": [{"image_id": "a"}]}',
        {},
        "the keys of every annotation: no column is a MOS by its name among image_id",
    ),
    "json lines": ('{"video": "a", "mos": 3}\n{"video": "b"\n', {}, "line 2: no valid JSON"),
    "json null": (
        '{"annotations": [{"image_id": "a", "score": null}]}',
        {},
        r"annotation 1: a: the MOS is blank \(1 of 1 are\)",
    ),
    "json type": (
        '{"annotations": [{"image_id": "a", "score": "3", "ann_type": "level"}]}',
        {},
        "annotation 1: ann_type is 'level'",
    ),
    "range": (OWN, {"mos_range": (5, 1)}, "a MOS range of 5 to 1 is no range above 0"),
    "range twice": (
        "video,mos,mos_low\na.mp4,3,1\n",
        {"mos_range": (1, 5)},
        "column 'mos_low' contradicts the range given; leave one of them out",
    ),
    "half a range": ("video,mos,mos_low\na.mp4,3,1\n", {}, "the column 'mos_low' is alone; write both"),
    "no split": (OWN, {"split": "train"}, "no column is_test or split to select 'train' by; leave"),
    "other split": (LSVQ, {"split": "val"}, "no rows of split 'val', there are test, train"),
    "flag": (
        LSVQ.replace("True", "maybe"),
        {"split": "test"},
        "line 3: ia/v.1: is_test is 'maybe'; write True",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str, tmp_path: Path) -> None:
    text, arguments, message = FAULTS[fault]
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        load_labels(path, **arguments)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_unknown_scale(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown scale 'log', choose one of divide, clip, affine"):
        load_labels(write(tmp_path, OWN), scale="log")


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"video,mos\n\xff\xfe")
    with pytest.raises(ValueError, match=r"labels.csv: no UTF-8 text from byte 10 on"):
        load_labels(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.csv"):
        load_labels(tmp_path / "none.csv")


def test_a_common_name_keeps_samples_apart(tmp_path: Path) -> None:
    samples = [Sample("1", name, (Media("a.mp4"),), "score", target=3.0) for name in ("one", "other")]
    write_samples(tmp_path / "set.jsonl", samples)
    assert len(load_labels(tmp_path / "set.jsonl")) == 2
    with pytest.raises(ValueError, match="in one data set 'all' the id '1' would stand for 2 samples"):
        load_labels(tmp_path / "set.jsonl", dataset="all")


def test_samples_know_which_of_them_are_for_tests(tmp_path: Path) -> None:
    samples = [
        Sample(name, "set", (Media(f"{name}.mp4"),), "score", target=3.0, columns={"is_test": is_test})
        for name, is_test in (("a", False), ("b", True), ("c", "false"))
    ]
    write_samples(tmp_path / "set.jsonl", samples)
    assert load_labels(tmp_path / "set.jsonl", split="train")["video_id"][:] == ["a", "c"]
    assert load_labels(tmp_path / "set.jsonl", split="test")["video_id"][:] == ["b"]
    write_samples(tmp_path / "set.jsonl", [replace(samples[0], columns={"is_test": "maybe"})])
    with pytest.raises(ValueError, match="the sample 'a': is_test is 'maybe'; write True or False"):
        load_labels(tmp_path / "set.jsonl", split="train")
