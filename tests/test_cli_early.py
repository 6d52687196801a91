"""What can be told before torch is imported is told before: wrong options, missing files, unknown names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "datasets", "decord", "matplotlib", "scipy"}
PROGRAM = """
import sys
from vqathinker.cli import app
try:
    app(prog_name="vqathinker")
finally:
    print(*sys.modules)
"""


def call(*arguments: object) -> tuple[int, str, set[str]]:
    """Exit code, standard error and heavy libraries imported by a command in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return run.returncode, run.stderr, HEAVY & set(run.stdout.split("\n")[-2].split())


@pytest.fixture(scope="module")
def place(
    checkpoints: dict[str, Path], labelled_videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a good checkpoint and some that are none, labels and videos."""
    place = tmp_path_factory.mktemp("early")
    shutil.copytree(checkpoints["none"], place / "good")
    shutil.copytree(labelled_videos, place / "videos")
    (place / "empty").mkdir()
    shutil.copytree(place / "good", place / "run" / "final")
    for name in ("cut", "other", "bare", "unread"):
        shutil.copytree(place / "good", place / name)
    (place / "cut" / "model.safetensors").unlink()
    (place / "other" / "config.json").write_text('{"model_type": "internvl"}')
    (place / "bare" / "processor_config.json").unlink()
    (place / "unread" / "config.json").write_text("{")
    (place / "adapter").mkdir()
    adapter = {"base_model_name_or_path": str(place / "gone")}
    (place / "adapter" / "adapter_config.json").write_text(json.dumps(adapter))
    (place / "text.csv").write_text("video,mos\n00.mp4,good\n")
    (place / "sets.yaml").write_text("mine: {labels: videos/train.csv, vidoes: videos}\n")
    (place / "vqc.csv").write_text("video,mos\nA000.mp4,3\n")
    (place / "labels").mkdir()
    return place


SCORE = ["score", "{place}/good", "{place}/videos/00.mp4"]
EVALUATE = ["evaluate", "{place}/good", "{place}/videos/train.csv", "--videos", "{place}/videos"]
CASES: list[tuple[list[object], str]] = [
    (["scroe"], "No such command 'scroe'. Did you mean 'score'?"),
    ([*SCORE, "--smaples", "3"], "score has no option --smaples, did you mean --samples?"),
    ([*EVALUATE, "--ranges", "1"], "evaluate has no option --ranges, did you mean --range?"),
    (["score"], "Missing argument"),
    ([*SCORE, "--samples", "0"], "Invalid value for '--samples'"),
    ([*SCORE, "--samples", "many"], "Invalid value for '--samples'"),
    ([*SCORE, "--engine", "hff"], "unknown --engine 'hff', did you mean hf?"),
    ([*SCORE, "--dtype", "bf16"], "unknown --dtype 'bf16', did you mean bfloat16? choose one of float32"),
    ([*SCORE, "--device", "gpu"], "--device 'gpu' cannot be used"),
    ([*SCORE, "--size", "450"], "--size 450: a frame size is a multiple of 28 pixels"),
    ([*SCORE, "--combine", "median"], "--combine median needs --samples 2 or more"),
    ([*SCORE, "--max-new-tokens", "9999"], "do not fit into 4096 tokens"),
    ([*SCORE, "--out", "{place}/text.csv"], "text.csv exists; choose another folder (--out) or replace it"),
    ([*SCORE, "--out", "scores.json"], "--out scores.json: give a folder, FILE.csv or FILE.jsonl"),
    ([*SCORE, "--out", "x", "--csv"], "--out writes files: leave --json and --csv out"),
    ([*SCORE, "--shard", "1"], "--shard and --num-shards need one another"),
    (["score", "{place}/goood", "a.mp4"], "{place}/goood is not a directory, did you mean {place}/good?"),
    (["score", "somebody/model-that-is-not-here", "a.mp4"], "not a directory here, and the Hugging Face hub"),
    (["score", "{place}/run", "a.mp4"], "it has no config.json; {place}/run/final is one"),
    (["score", "{place}/empty", "a.mp4"], "{place}/empty is no checkpoint: it has no config.json"),
    (["score", "{place}/cut", "a.mp4"], "{place}/cut holds no weights"),
    (["score", "{place}/bare", "a.mp4"], "{place}/bare has no processor_config.json"),
    (["score", "{place}/unread", "a.mp4"], "config.json cannot be read as JSON"),
    (["score", "{place}/other", "a.mp4"], "is a 'internvl' model, none of vqathinker: make one of it with"),
    (["score", "{place}/adapter", "a.mp4"], "was trained on {place}/gone, which is not there"),
    (["score", "{place}/good", "https://host/a.mp4"], "is an address, score reads files: download it first"),
    ([*EVALUATE, "--range", "1", "--videos", "x"], "Invalid value for '--range'"),
    (["evaluate", "{place}/good", "{place}/videos/tarin.csv", "--videos", "x"], "did you mean {place}/"),
    (["evaluate", "{place}/good", "{place}/videos/train.csv", "--videos", "{place}/x"], "x is not a folder"),
    (["evaluate", "{place}/good", "{place}/text.csv", "--videos", "{place}/videos"], "'good' is not a num"),
    (["evaluate", "{place}/bad", *EVALUATE[2:]], "{place}/bad is not a directory"),
    (["evaluate", "{place}/good"], "LABELS|NAME: a label file, the name of a data set, or --sets FILE"),
    (["evaluate", "{place}/good", "konvid-1k", "--videos", "x"], "konvid-1k needs its label file"),
    ([*EVALUATE, "--scale", "log"], "unknown --scale 'log'"),
    ([*EVALUATE, "--sets", "x.yaml"], "leave the others out"),
    (["evaluate", "{place}/good", "--sets", "{place}/set.yaml"], "did you mean {place}/sets.yaml?"),
    (["evaluate", "{place}/good", "--sets", "{place}/sets.yaml"], "unknown 'vidoes', did you mean videos?"),
    (["report", "{place}/rum"], "{place}/rum is not a folder, did you mean {place}/run?"),
    (["report", "{place}/run"], "{place}/run holds no result"),
    (["datasets", "konvid-2k"], "no data set 'konvid-2k', did you mean KoNViD-1k?"),
    ([*EVALUATE[:3], "--videos", "{place}/labels"], "8 videos, such as {place}/labels/00.mp4, is there"),
    (
        ["evaluate", "{place}/good", "live-vqc", "--labels", "{place}/vqc.csv", "--videos", "{place}/labels"],
        "none of the 1 videos, such as {place}/labels/A000.mp4, is there: check the folder of the videos",
    ),
    (["prepare", "{place}/none.csv", "--videos", "{place}/videos"], "{place}/none.csv: no such label file"),
    (["prepare", "{place}/text.csv", "--videos", "{place}/vidoes"], "did you mean {place}/videos?"),
    (["prepare", "{place}/text.csv", "--videos", "{place}/videos", "--scale", "log"], "unknown scale 'log'"),
    (["prepare", "{place}/videos", "--videos", "{place}/videos"], "is a folder, not a label file"),
    (["datasets", "live-vqc", "--labels", "{place}/vcq.csv"], "did you mean {place}/vqc.csv?"),
    (["init", "--internvl", "x", "--out", "{place}/good"], "{place}/good is not empty"),
    (["init", "--internvl", "x", "--out", "y", "--frame-size", "57"], "--frame-size 57: a frame size is"),
    (["init", "--internvl", "x", "--out", "y", "--prompt", "z"], "--prompt z is not a file"),
    (["convert", "{place}/good", "{place}/good"], "{place}/good is not empty"),
    (["merge", "{place}/adapter", "{place}/good"], "{place}/good is not empty"),
    (["prepare", "{place}/videos/train.csv", "--videos", "{place}/x"], "--videos {place}/x is not a folder"),
    (["serve", "{place}/goood"], "{place}/goood is not a directory, did you mean {place}/good?"),
    (["serve", "{place}/good", "--rolouts"], "serve has no option --rolouts, did you mean --rollouts?"),
    (["serve", "{place}/adapter"], "was trained on {place}/gone"),
    (["init", "--internvl", "x", "--out", "y", "--motion", "slow"], "unknown --motion 'slow', did you mean"),
    (["init", "--internvl", "x", "--out", "y", "--slowfast", "z"], "--slowfast z is not a file"),
    (["init", "--internvl", "{place}/other", "--out", "y"], "has no motion branch, and motion='slowfast'"),
    (["convert", "x", "y", "--to", "gguf"], "unknown --to 'gguf'"),
    (["convert", "{place}/gone", "y"], "{place}/gone is not a directory"),
    (["convert", "{place}/adapter", "y"], "holds an adapter; merge it into its base first (vqathinker merge"),
    (["convert", "{place}/other", "y", "--motion", "fast"], "or leave motion out (--motion none)"),
    (["merge", "{place}/adapter", "y"], "was trained on {place}/gone, which is not there"),
    (["merge", "{place}/good", "y"], "is no adapter (no adapter_config.json)"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=lambda value: str(value)[:60])
def test_told_before_torch_is_imported(arguments: list[str], message: str, place: Path) -> None:
    code, said, loaded = call(*(argument.format(place=place) for argument in arguments))
    assert code == 2, said
    assert message.format(place=place) in said
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    assert loaded <= {"decord"}  # a quarter of a second


def test_a_missing_video_is_told_before_the_model_is_loaded(place: Path) -> None:
    code, said, loaded = call("score", place / "good", place / "videos/0O.mp4")
    assert (code, loaded - {"decord"}) == (2, set())
    assert said.startswith(f"Error: {place}/videos/0O.mp4: no such file, did you mean {place}/videos/")
    code, said, loaded = call("score", place / "good", place / "empty", place / "none.mp4")
    assert (code, loaded - {"decord"}) == (2, set())
    assert said == f"Error: none of 2 videos is there; {place}/empty: the folder holds no video files\n"


def test_help_and_version_load_nothing_heavy() -> None:
    for arguments in (["--help"], ["--version"], ["score", "--help"], ["evaluate", "--help"]):
        code, said, loaded = call(*arguments)
        assert (code, said, loaded) == (0, "", set())
