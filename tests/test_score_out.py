"""`vqathinker score --out` and `evaluate --sets`: nothing is lost, nothing is mixed, shards fit together."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call

LIMITS = ["--max-new-tokens", "4", "--batch-size", "2", "--workers", "1"]


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, without the seconds that they took."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def checkpoint(checkpoints: dict[str, Path]) -> Path:
    return checkpoints["none"]


@pytest.fixture(scope="module")
def folder(labelled_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good videos and one that is none."""
    folder = tmp_path_factory.mktemp("folder")
    for name in ("00.mp4", "01.mp4", "02.mp4", "03.mp4"):
        shutil.copy(labelled_videos / name, folder)
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.mark.slow
def test_a_killed_run_goes_on(checkpoint: Path, labelled_videos: Path, tmp_path: Path) -> None:
    """The files are those of a run that nobody killed."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(12):
        shutil.copy(labelled_videos / f"{number % 12:02}.mp4", videos / f"{number:02}.mp4")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # each batch takes a while: sampled, one video at a time
    options = [str(videos), "--max-new-tokens", "40", "--batch-size", "1", "--workers", "1", "--samples", "2"]
    assert call("score", checkpoint, *options, "--out", whole).exit_code in (0, 1)
    command = [sys.executable, "-m", "vqathinker.cli", "score", str(checkpoint), *options]
    process = subprocess.Popen([*command, "--out", str(killed)], stderr=subprocess.DEVNULL)
    journal = killed / "journal-0-of-1.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = journal.read_bytes().count(b"\n") - 1
    assert 3 <= written < 12
    assert not (killed / "scores.csv").exists()
    again = call("score", checkpoint, *options, "--out", killed)
    assert f"{written} of 12 videos have their results already" in again.stderr
    assert rows(killed / "scores.jsonl") == rows(whole / "scores.jsonl")
    assert journal.read_bytes().count(b"\n") == 13
    with (killed / "scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [row["path"] for row in rows(whole / "scores.jsonl")]


def test_shards_fill_one_target(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole.jsonl", tmp_path / "shared.jsonl"
    options = [checkpoint, folder, *LIMITS]
    assert call("score", *options, "--out", whole).exit_code == 1
    first = call("score", *options, "--out", shared, "--num-shards", 2, "--shard", 0)
    assert (first.exit_code, first.stdout) == (0, "shard 0 of 2 is done, 2 videos are left to the others\n")
    second = call("score", *options, "--out", shared, "--num-shards", 2, "--shard", 1)
    assert second.exit_code == 1
    assert second.stdout.startswith("5 videos, 1 unreadable, ")
    assert rows(shared) == rows(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "shared.jsonl", "shared.jsonl.journal", "whole.jsonl", "whole.jsonl.journal",
    ]  # fmt: skip


@pytest.mark.slow
def test_results_of_other_settings_are_not_mixed(
    checkpoints: dict[str, Path], checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["score", checkpoint, folder, *LIMITS, "--out", out]
    assert call(*arguments).exit_code == 1
    before = (out / "scores.jsonl").read_bytes()
    for options, message in (
        (["--frames", 3], "the number of keyframes is 6 there and 3 here"),
        (["--size", 28], "the side of the keyframes in pixels is 56 there and 28 here"),
        (["--samples", 2], "mode.samples is 1 there and 2 here"),
        (["--ask", "How sharp?"], 'the question (--ask, --describe) is null there and "How sharp?" here'),
        (["--timeline", 0.4], "the length of windows (--timeline) is null there and 0.4 here"),
    ):
        result = call(*arguments, *options)
        assert result.exit_code == 2, options
        assert message in result.stderr.splitlines()[-1]
        assert "choose another folder (--out) or replace it (--overwrite)" in result.stderr
    result = call("score", checkpoints["fast"], *arguments[2:])
    assert result.exit_code == 2
    assert (
        "the model is another one (weights, vocabulary or chat template): its fingerprint is" in result.stderr
    )
    assert (out / "scores.jsonl").read_bytes() == before
    assert call(*arguments, "--frames", 3, "--overwrite").exit_code == 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["settings"]["num_frames"] == 3
    assert (summary["videos"], summary["unreadable"]) == (5, 1)


def test_more_videos_and_changed_ones(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "scores.csv"
    shutil.copytree(folder, videos)
    arguments = ["score", checkpoint, videos, *LIMITS, "--out", out]
    assert call(*arguments).exit_code == 1
    shutil.copy(videos / "00.mp4", videos / "new.mp4")
    shutil.copy(videos / "01.mp4", videos / "broken.mp4")  # repaired
    shutil.copyfile(videos / "03.mp4", videos / "02.mp4")  # another video under the name
    result = call(*arguments)
    assert "3 of 6 videos have their results already" in result.stderr
    with out.open(newline="") as file:
        table = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert all(row["error"] == "" for row in table.values())
    assert table["02.mp4"]["num_frames"] == table["03.mp4"]["num_frames"] == "23"
    assert table["new.mp4"]["texts"] == table["00.mp4"]["texts"]


def test_frames_and_size(checkpoint: Path, folder: Path) -> None:
    line = json.loads(
        call("score", checkpoint, folder / "00.mp4", "--json", "--frames", 5, "--size", 84, *LIMITS).stdout
    )
    step = 19 / 5  # of twenty frames
    assert line["indices"] == (step / 2 + np.round(step * np.arange(5))).astype(int).tolist()
    assert line["size"] == 84


def test_reasoning_and_tags(checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vqathinker.rollout import HFEngine, Response

    def generate(self: HFEngine, requests: list[Any], number: int, *_: object) -> list[list[Response]]:
        ids = self.processor.tokenizer("<think>soft edges</think><answer>4.20</answer>")["input_ids"]
        return [[Response(ids, [0.0] * len(ids))] for _ in requests]

    monkeypatch.setattr(HFEngine, "generate", generate)
    path = folder / "00.mp4"
    shown = call("score", checkpoint, path, "--reasoning").stdout.splitlines()
    assert shown[1].split() == ["4.20", "0.80", "s", str(path)]
    assert shown[2] == "  soft edges"
    assert "soft edges" not in call("score", checkpoint, path).stdout  # not on a terminal
    assert call("score", checkpoint, path, "--describe").stdout == f"{path}\n  soft edges\n  4.20\n"
    windows = call("score", checkpoint, path, "--timeline", 0.4).stdout.splitlines()
    assert windows[0].split() == ["score", "from", "to", "video"]
    assert windows[1].split()[:5] == ["4.20", "0.00", "s", "0.40", "s"]


@pytest.mark.slow
def test_a_log_has_lines_and_no_bars(checkpoint: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "vqathinker.cli", "score", str(checkpoint), str(folder), *LIMITS]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"})
    assert "\r" not in run.stderr
    assert "\x1b" not in run.stderr
    (last,) = [line for line in run.stderr.splitlines() if line.startswith("scoring: ")]
    assert last.startswith("scoring: 5/5 videos, ")
    assert last.endswith(" videos/s, 0 s left")


@pytest.fixture
def sets(labelled_videos: Path, tmp_path: Path) -> Path:
    """Two sets of ours and a known one, all of the same few videos."""
    shutil.copytree(labelled_videos, tmp_path / "videos")
    (tmp_path / "videos" / "labels").mkdir()
    names = [f"{i:02}.mp4" for i in range(12)]
    for name, part in (("a", names[:8]), ("b", names[8:])):
        lines = [f"{video},{1 + (i * 5 % 8) / 2}" for i, video in enumerate(part)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["video,mos", *lines]) + "\n")
    for i in range(3):
        shutil.copy(tmp_path / "videos" / names[i], tmp_path / "videos" / f"A00{i}.mp4")
    (tmp_path / "vqc.csv").write_text("video,mos\nA000.mp4,10\nA001.mp4,70\nA002.mp4,40\n")
    file = tmp_path / "sets.yaml"
    file.write_text(
        "my set: {labels: a.csv, videos: videos, range: [1, 5]}\n"
        "b: {labels: b.csv, videos: videos, range: [1, 5], scale: affine}\n"
        "live-vqc: {labels: vqc.csv, videos: videos}\n"
    )
    return file


@pytest.mark.slow
def test_several_sets_at_once(checkpoint: Path, sets: Path, tmp_path: Path) -> None:
    """Each set as an evaluation of its own, the model loaded once, then the mean weighted by videos."""
    out = tmp_path / "results"
    arguments = ["evaluate", checkpoint, "--sets", sets, "--out", out, "--levels", *LIMITS]
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    summaries = {
        name: json.loads((out / name / "summary.json").read_text()) for name in ("my_set", "b", "live-vqc")
    }
    assert [summary["videos"] for summary in summaries.values()] == [8, 4, 3]
    assert summaries["live-vqc"]["settings"]["native_ranges"] == {"LIVE-VQC": [[0, 100]]}
    assert summaries["b"]["settings"]["scale"] == "affine"
    alone = call(
        "evaluate", checkpoint, tmp_path / "a.csv", "--videos", tmp_path / "videos", "--range", 1, 5,
        "--dataset", "my set", "--out", tmp_path / "alone", "--levels", *LIMITS,
    )  # fmt: skip
    assert alone.exit_code == 0, alone.output
    one = (tmp_path / "alone" / "predictions.csv").read_bytes()
    assert (out / "my_set" / "predictions.csv").read_bytes() == one
    values = [summary["metrics"]["srcc"]["value"] for summary in summaries.values()]
    expected = np.average(values, weights=[8, 4, 3])
    (line,) = [line for line in result.stdout.splitlines() if "overall (3 sets)" in line]
    assert f"{expected:.3f} /" in line
    again = call(*arguments)
    assert again.stderr.count("videos have their results already") == 3


def test_wrong_sets(checkpoint: Path, sets: Path, tmp_path: Path) -> None:
    assert "--sets needs --out" in call("evaluate", checkpoint, "--sets", sets).stderr
    for text, message in (
        ("", "expected NAME: {labels: FILE, videos: FOLDER} for each set"),
        ("a: 3", "a: expected {labels: FILE, videos: FOLDER}"),
        ("a: {labels: a.csv}", "a: videos is missing, the folder of videos"),
        ("a: {labels: a.csv, videos: videos, range: 5}", "a: range 5, expected [LOW, HIGH]"),
        ("a: {labels: c.csv, videos: videos}", "c.csv: no such label file, did you mean"),
        ("a: {labels: a.csv, videos: nowhere}", "nowhere is not a folder"),
        ("a: {labels: [", "is no YAML"),
        (
            "a b: {labels: a.csv, videos: videos}\na+b: {labels: b.csv, videos: videos}",
            "become the folder 'a_b'",
        ),
    ):
        sets.write_text(text)
        result = call("evaluate", checkpoint, "--sets", sets, "--out", tmp_path / "out")
        assert result.exit_code == 2, text
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
