"""`vqathinker score`: what is printed, how it ends, and that nothing printed is lost."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from vqathinker.cli import app

REPLIES = ("<think>sharp</think><answer>4.20</answer>", "<think></think><answer>9.00</answer>", "3.00", "")
COMMAND = [sys.executable, "-c", "from vqathinker.cli import app; app()", "score"]


def call(*arguments: object, stdin: str | None = None) -> Result:
    given = ["score", *(str(argument) for argument in arguments), "--workers", "1"]
    return CliRunner().invoke(app, given, input=stdin)


def rows(text: str) -> list[dict[str, Any]]:
    """Parse JSON lines without the NaN that Python alone allows."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


@pytest.fixture(scope="module")
def checkpoint(checkpoints: dict[str, Path]) -> Path:
    return checkpoints["none"]


@pytest.fixture(scope="module")
def files(labelled_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A good video, one that is none, another good one."""
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / name for name in ("00.mp4", "broken.mp4", "01.mp4")]
    for path in (paths[0], paths[2]):
        shutil.copy(labelled_videos / path.name, path)
    paths[1].write_text("no video")
    return paths


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the engine give these responses, one after the other, through the real tokenizer."""
    from vqathinker.rollout import HFEngine, Response

    def use(*texts: str) -> None:
        replies: Iterator[str] = iter(texts)

        def generate(self: HFEngine, requests: list[Any], number: int, *_: object) -> list[list[Response]]:
            ids = [
                [self.processor.tokenizer(next(replies))["input_ids"] for _ in range(number)]
                for _ in requests
            ]
            return [[Response(tokens, [0.0] * len(tokens)) for tokens in group] for group in ids]

        monkeypatch.setattr(HFEngine, "generate", generate)

    return use


def test_table(checkpoint: Path, files: list[Path], say: Callable[..., None]) -> None:
    say(*REPLIES)
    result = call(checkpoint, *files)
    assert result.exit_code == 1, result.output
    header, *lines = (line.split() for line in result.stdout.splitlines())
    assert header == ["score", "length", "video"]
    assert lines[0][1:3] == ["0.80", "s"]
    assert [(line[0], line[-1]) for line in lines] == [
        ("4.20", str(files[0])),
        ("-", str(files[1])),
        ("5.00", str(files[2])),
    ]
    assert f"{files[1]}: cannot be decoded" in result.stderr
    assert "1 scores outside 1-5" in result.stderr
    say("<answer>2.00</answer>")
    assert call(checkpoint, files[0], "--answer-only").exit_code == 0


def test_json_and_csv_say_the_same(checkpoint: Path, files: list[Path], say: Callable[..., None]) -> None:
    say(*REPLIES)
    lines = rows(call(checkpoint, *files, "--json").stdout)
    assert [line["score"] for line in lines] == [4.2, None, 5.0]
    assert [line["raw"] for line in lines] == [4.2, None, 9.0]
    assert [line["clipped"] for line in lines] == [False, False, True]
    assert [line["texts"] for line in lines] == [[REPLIES[0]], [], [REPLIES[1]]]
    assert lines[0]["indices"] == [1, 4, 7, 11, 14, 17]  # int(19/12 + round(19/6 i))
    settings = [line.pop("settings") for line in lines]
    assert settings[0] == settings[2]
    assert (settings[0]["checkpoint"], settings[0]["num_frames"]) == (str(checkpoint), 6)
    assert {"prompt", "sampling", "versions", "dtype", "fingerprint"} <= settings[0].keys()
    say(*REPLIES)
    table = list(csv.DictReader(io.StringIO(call(checkpoint, *files, "--csv").stdout)))
    assert [list(row) for row in table] == [list(line) for line in lines]
    assert [row["score"] for row in table] == ["4.2", "", "5.0"]
    assert json.loads(table[0]["indices"]) == lines[0]["indices"]
    assert table[1]["error"] == lines[1]["error"]


def test_samples(checkpoint: Path, files: list[Path], say: Callable[..., None]) -> None:
    drawn = [f"<think></think><answer>{value}</answer>" for value in ("2.00", "3.00", "7.00")]
    say(*drawn, "none", *drawn, "none")
    result = call(checkpoint, files[0], "--samples", 4, "--json")
    (line,) = rows(result.stdout)
    assert (result.exit_code, line["samples"]) == (0, [2.0, 3.0, 7.0, None])
    mean = pytest.approx(10 / 3)  # 7 counts as 5, the end of the scale
    assert line["score"] == mean
    assert line["details"] == {"mean": mean, "median": 3.0, "trimmed": mean, "confidence": mean}
    assert "1 samples hold no score" in result.stderr
    result = call(checkpoint, files[0], "--samples", 4, "--combine", "median")
    assert result.stdout.splitlines()[1].split()[:2] == ["3.00", "1.53"]


def test_lists_folders_and_patterns(checkpoint: Path, files: list[Path], tmp_path: Path) -> None:
    folder = files[0].parent
    options = ("--json", "--max-new-tokens", 2)
    listed = call(checkpoint, "-", *options, stdin=f"{files[2]}\n\n{files[0]}\n")
    assert [row["path"] for row in rows(listed.stdout)] == [str(files[2]), str(files[0])]
    result = call(checkpoint, folder, folder / "0*.mp4", tmp_path, *options)
    assert [row["path"] for row in rows(result.stdout)] == [
        *sorted(map(str, files)),
        str(files[0]),
        str(files[2]),
        str(tmp_path),
    ]
    assert f"{tmp_path}: the folder holds no video files" in result.stderr
    assert result.exit_code == 1
    nothing = call(checkpoint, "-", stdin="\n")
    assert (nothing.exit_code, nothing.stderr) == (2, "Error: standard input names no video\n")


def test_every_fault_has_its_line(checkpoint: Path, broken_videos: dict[str, Path], video: Path) -> None:
    paths = [*broken_videos.values(), video]
    result = call(checkpoint, *paths, "--json", "--levels")
    assert result.exit_code == 1
    lines = rows(result.stdout)
    assert [line["path"] for line in lines] == list(map(str, paths))
    assert [line["error"] is None for line in lines] == [path == video for path in paths]
    for line in lines[:-1]:
        assert result.stderr.count(f"{line['path']}: {line['error']}\n") == 1
    assert lines[-1]["score"] == pytest.approx(1 + 4 * sum(
        weight * p for weight, p in zip((1, 0.75, 0.5, 0.25, 0), lines[-1]["details"].values(), strict=True)
    ))  # fmt: skip


@pytest.mark.slow
def test_timeline_and_answers(checkpoint: Path, files: list[Path]) -> None:
    result = call(checkpoint, *files[:2], "--timeline", 0.4, "--stride", 0.2, "--expected", "--json")
    lines = rows(result.stdout)
    assert [(line["start"], line["end"]) for line in lines[:-1]] == [
        (0.0, 0.4),
        (0.2, pytest.approx(0.6)),
        (0.4, 0.8),
    ]
    assert [line["mode"] for line in lines] == ["expected"] * 4
    assert (lines[-1]["path"], lines[-1]["score"]) == (str(files[1]), None)
    for option in (["--describe"], ["--ask", "How sharp?"]):
        result = call(checkpoint, *files, *option, "--json", "--max-new-tokens", 3)
        lines = rows(result.stdout)
        assert [line["error"] is None for line in lines] == [True, False, True]
        assert all("score" not in line and line["question"] for line in lines)
        assert result.exit_code == 1
        shown = call(checkpoint, files[0], *option, "--max-new-tokens", 3)
        assert shown.stdout.startswith(f"{files[0]}\n  ")
        assert shown.exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "--csv"], "choose one of --json and --csv"),
        (["--describe", "--ask", "Why?"], "one of --describe and --ask"),
        (["--ask", "Why?", "--levels"], "--describe and --ask give no score"),
        (["--ask", " "], "--ask needs a question"),
        (["--stride", "1"], "--stride needs --timeline"),
        (["--timeline", "-1"], "--timeline -1: a number of seconds must be positive"),
        (["--timeline", "1", "--stride", "nan"], "--stride nan: a number of seconds must be positive"),
        (["--combine", "median"], "--combine median needs --samples 2 or more"),
        (["--samples", "3", "--levels"], "choose one of --samples, --expected and --levels"),
        (["--combine", "mode"], "unknown --combine 'mode', choose one of mean"),
        (["--engine", "tgi"], "unknown --engine 'tgi'"),
        (["--device", "toaster"], "device 'toaster' cannot be used"),
        (["--max-new-tokens", "9999"], "do not fit into 4096"),
    ],
)
def test_user_errors_are_one_line(
    options: list[str], message: str, checkpoint: Path, files: list[Path]
) -> None:
    result = call(checkpoint, files[0], *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == 1
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk(checkpoint: Path, files: list[Path]) -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [*COMMAND, str(checkpoint), str(files[0]), "--max-new-tokens", "2"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert run.returncode == 1
    assert "Error: cannot write after 0 results: No space left on device\n" in run.stderr
    assert "Traceback" not in run.stderr
    assert "Exception" not in run.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_ctrl_c_keeps_what_is_written(checkpoint: Path, files: list[Path]) -> None:
    paths = [str(files[0])] * 5000
    process = subprocess.Popen(
        [*COMMAND, str(checkpoint), "-", "--json", "--max-new-tokens", "2", "--batch-size", "2"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
        # a shell's background jobs, and so their tests, ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n".join(paths))
    process.stdin.close()
    first = [process.stdout.readline() for _ in range(4)]
    tasks = Path(f"/proc/{process.pid}/task").iterdir()  # the children of each thread
    workers = [worker for task in tasks for worker in (task / "children").read_text().split()]
    assert workers
    os.killpg(process.pid, signal.SIGINT)
    process.stdin = None
    rest, messages = process.communicate(timeout=60)
    lines = rows("".join(first) + rest)
    assert process.returncode == 130
    assert messages.endswith("\ninterrupted; every result so far is written\n")
    assert "Traceback" not in messages
    assert 4 <= len(lines) < 5000
    time.sleep(0.2)
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]


@pytest.mark.slow
def test_a_reader_that_leaves(checkpoint: Path, files: list[Path]) -> None:
    command = f"{sys.executable} -c '{COMMAND[2]}' score {checkpoint} {files[0]}"
    run = subprocess.run(
        f"{command} {files[0]} --batch-size 1 --json --max-new-tokens 2 | head -c 10",
        shell=True, capture_output=True, text=True,
    )  # fmt: skip
    assert run.stdout == '{"path": "'
    assert "Traceback" not in run.stderr
    assert "Error" not in run.stderr


@pytest.mark.slow
def test_names_need_not_be_text(checkpoint: Path, files: list[Path], tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/bad\xff.mp4"
    shutil.copy(files[0], name)
    run = subprocess.run(
        [*COMMAND, str(checkpoint), str(tmp_path), "--json", "--max-new-tokens", "2"],
        capture_output=True,
    )
    assert run.returncode == 1, run.stderr  # no score in two tokens
    (row,) = rows(run.stdout.decode())
    assert row["error"] is None
    assert row["num_frames"] == 20
