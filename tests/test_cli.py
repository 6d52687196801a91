"""The command line: exit codes, one-line errors, a help that loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import call


@pytest.fixture
def labels(video: Path, tmp_path: Path) -> Path:
    """A label file for one good video."""
    path = tmp_path / "labels.csv"
    path.write_text(f"video,mos\n{video.name},4\n")
    return path


def test_clean(labels: Path, video: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = call("prepare", labels, "--videos", video.parent, "--range", 1, 5, "--report", report)
    assert result.exit_code == 0, result.output
    assert "unreadable" in result.stdout
    assert json.loads(report.read_text())["num_videos"] == 1


def test_videos_matched_by_stem(labels: Path, video: Path, tmp_path: Path) -> None:
    labels.write_text("video,mos\nplain.mov,4\n")
    report = tmp_path / "report.json"
    result = call("prepare", labels, "--videos", video.parent, "--range", 1, 5, "--report", report)
    assert result.exit_code == 0, result.output
    assert f"1 videos matched by stem: plain.mov is {video}" in result.stdout
    assert json.loads(report.read_text())["matches"]["by_stem"] == {"plain.mov": str(video)}


def test_columns_that_cannot_be_told_are_named_by_options(labels: Path, video: Path) -> None:
    labels.write_text(f"{video.name},3.20,0.61,4\n")
    result = call("prepare", labels, "--videos", video.parent, "--range", 1, 5)
    assert result.exit_code == 2
    assert "column 2 (3.20), column 3 (0.61) and column 4 (4) could be the MOS" in result.stderr
    options = ["--video-column", 1, "--mos-column", 2]
    result = call("prepare", labels, "--videos", video.parent, "--range", 1, 5, *options)
    assert result.exit_code == 0, result.output


def test_findings(labels: Path, broken_videos: dict[str, Path]) -> None:
    folder = broken_videos["empty"].parent
    names = [f"{i}.mp4" for i in range(12)]
    labels.write_text("video,mos\nempty.mp4,4\n" + "".join(f"{name},4\n" for name in names))
    result = call("prepare", labels, "--videos", folder, "--no-decode", "--dataset", "mine")
    assert result.exit_code == 1
    assert "mine/0.mp4: no such file" in result.stdout
    assert "... and 3 more; --report FILE lists all" in result.stdout


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("video,mos\na.mp4,nan\n", [], "labels.csv: line 2: a.mp4: the MOS is 'nan'"),
        ("", [], "labels.csv: no labels in the file"),
        ("video,mos\na.mp4,3\n", ["--scale", "log"], "unknown scale 'log'"),
        ("video,mos\na.mp4,3\n", ["--format", "xml"], "unknown label format 'xml'"),
        ("video,mos\na.mp4,3\n", ["--videos", "nowhere"], "--videos nowhere is not a folder"),
    ],
)
def test_user_errors_are_one_line(
    text: str, options: list[str], message: str, labels: Path, tmp_path: Path
) -> None:
    labels.write_text(text)
    result = call("prepare", labels, "--videos", tmp_path, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_no_label_file(tmp_path: Path) -> None:
    result = call("prepare", tmp_path / "none.csv", "--videos", tmp_path)
    assert result.exit_code == 2
    assert "none.csv" in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_arguments(tmp_path: Path) -> None:
    assert call("prepare").exit_code == 2
    assert call("prepare", "x.csv", "--videos", tmp_path, "--workers", 0).exit_code == 2


def test_reports_are_not_overwritten(labels: Path, video: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text("precious")
    arguments = ("prepare", labels, "--videos", video.parent, "--no-decode", "--range", 1, 5)
    arguments = (*arguments, "--report", report)
    result = call(*arguments)
    assert result.exit_code == 2
    assert f"{report} exists; give --overwrite" in result.stderr
    assert report.read_text() == "precious"
    assert call(*arguments, "--overwrite").exit_code == 0
    assert json.loads(report.read_text())["is_clean"] is True


def test_a_report_needs_its_folder(labels: Path, video: Path, tmp_path: Path) -> None:
    report = tmp_path / "gone" / "report.json"
    result = call("prepare", labels, "--videos", video.parent, "--range", 1, 5, "--report", report)
    assert result.exit_code == 2
    assert result.stderr == f"Error: --report {report}: {report.parent} is not a folder\n"


def test_a_wrong_range_is_told(labels: Path, video: Path) -> None:
    result = call("prepare", labels, "--videos", video.parent, "--no-decode")
    assert result.exit_code == 1
    assert "give the native range as --range LOW HIGH" in result.stdout


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    assert "prepare" in call("--help").stdout
    code = "import sys, vqathinker.cli; print({'torch', 'datasets', 'av', 'decord'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.fixture(scope="module")
def internvl(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny InternVL in the published format."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    from vqathinker.model import VQAThinkerConfig, VQAThinkerProcessor

    folder = tmp_path_factory.mktemp("internvl")
    ours = VQAThinkerConfig.from_pretrained(tiny_checkpoint)
    config = InternVLConfig(
        vision_config=ours.vision_config,
        text_config=ours.text_config,
        image_token_id=ours.image_token_id,
        image_seq_length=ours.image_seq_length,
        tie_word_embeddings=False,
    )
    InternVLForConditionalGeneration(config).save_pretrained(folder)
    VQAThinkerProcessor.from_pretrained(tiny_checkpoint).tokenizer.save_pretrained(folder)
    return folder


def test_init(internvl: Path, tmp_path: Path) -> None:
    from vqathinker.checkpoints.assemble import load_policy

    out, prompt = tmp_path / "out", tmp_path / "prompt.txt"
    prompt.write_text("How sharp is it?\n")
    arguments = ["init", "--internvl", internvl, "--out", out, "--motion", "none", "--prompt", prompt]
    sizes = ["--num-frames", 4, "--frame-size", 56, "--scoring-frame-size", 56]
    result = call(*arguments, *sizes)
    assert result.exit_code == 0, result.output
    model, processor = load_policy(out)
    assert model.config.motion == "none"
    assert (processor.num_frames, processor.frame_size, processor.scoring_num_frames) == (4, 56, 12)
    assert processor.prompt["question"] == "How sharp is it?"
    again = call(*arguments)
    assert again.exit_code == 2
    assert f"{out} is not empty" in again.stderr
    assert call(*arguments, *sizes, "--overwrite", "--dtype", "bfloat16").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--internvl", "nowhere/at/all", "--motion", "none"], "nowhere/at/all"),
        ([], "motion='slowfast' needs a SlowFast checkpoint"),
        (["--motion", "optical"], "unknown --motion 'optical', choose one of slowfast, fast, none"),
        (["--dtype", "int8"], "unknown --dtype 'int8'"),
        (["--slowfast", "none.pyth"], "--slowfast none.pyth is not a file"),
        (["--motion", "none", "--frame-size", "57"], "--frame-size 57: a frame size is a multiple of 28"),
        (["--motion", "none", "--prompt", "none.txt"], "none.txt"),
    ],
)
def test_init_errors_are_one_line(options: list[str], message: str, internvl: Path, tmp_path: Path) -> None:
    result = call("init", "--internvl", internvl, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("Error")] == [
        result.stderr.splitlines()[-1]
    ]
    assert not (tmp_path / "out").exists()
