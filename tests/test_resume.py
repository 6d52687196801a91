"""Evaluations that are killed, shared or continued end as undisturbed ones do: real processes and signals."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PROCESSES, read_rows, redirect_output, rounds

from vqathinker import journal as journal_module
from vqathinker.atomic import whole_file, write_table
from vqathinker.cli import app
from vqathinker.evaluation import Keeping
from vqathinker.journal import Journal, Lines, read, read_entries, read_lines, remove_all

NUM_VIDEOS = rounds(18, 32)


@pytest.fixture(scope="module")
def folder(make_video: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos that differ, one file that is none, and the labels of these and of a missing one."""
    folder = tmp_path_factory.mktemp("many")
    names = [make_video(folder / f"{i:02}.mp4", 6 + 3 * i, (64, 48)).name for i in range(NUM_VIDEOS - 2)]
    names[-4:-4] = ["broken.mp4", "missing.mp4"]
    (folder / "broken.mp4").write_text("no video")
    lines = [f"{name},{1 + i * 7 % 13 / 4}" for i, name in enumerate(names)]
    (folder / "own.csv").write_text("\n".join(["video,mos", *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def taught(checkpoints: dict[str, Path], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint that has learned to answer with scores, different ones."""
    from vqathinker.checkpoints.assemble import load_policy
    from vqathinker.data.dataset import load_labels
    from vqathinker.training.sft.collate import SupervisedCollator

    model, processor = load_policy(checkpoints["none"])
    rows = load_labels(folder / "own.csv", video_dir=folder, mos_range=(1, 5))
    collate, draw = SupervisedCollator(processor, num_workers=1), random.Random(0)
    batches = [
        collate(draw.sample([row for row in rows if row["video_id"][0].isdigit()], 12)) for _ in range(45)
    ]
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for batch in batches:
        model(**batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    out = tmp_path_factory.mktemp("taught")
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def arguments(taught: Path, folder: Path) -> list[str]:
    arguments = ["evaluate", taught, folder / "own.csv", "--videos", folder, "--range", 1, 5]
    return [str(part) for part in (*arguments, "--max-new-tokens", 32, "--batch-size", 2, "--workers", 1)]


@pytest.fixture(scope="module")
def undisturbed(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one run of the command writes."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run = command(arguments, out)
    assert run.returncode == 1, run.stderr  # two files cannot be read
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["videos"], summary["unreadable"], summary["unparsed"]) == (NUM_VIDEOS, 2, 0)
    assert summary["metrics"]["srcc"]["value"] is not None
    return out


def command(arguments: list[str], out: Path, *launcher: str) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    launcher = launcher or (sys.executable, "-m", "vqathinker.cli")
    return subprocess.run([*launcher, *arguments, "--out", str(out)], capture_output=True, text=True)


def start(arguments: list[str], out: Path, *options: object, **kwargs: Any) -> Any:  # noqa: ANN401
    """Start the command in a process that needs no imports."""
    process = PROCESSES.Process(
        target=invoke, args=([*arguments, "--out", str(out), *map(str, options)], out.parent), kwargs=kwargs
    )
    process.start()
    return process


def invoke(arguments: list[str], folder: Path, max_bytes: int | None = None) -> None:
    """Run the command with its output in `folder / "said"`, in files of at most `max_bytes`."""
    redirect_output(folder / "said")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    if max_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    app(arguments)


def num_lines(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("journal-*"))


def wait_for_lines(process: Any, out: Path, number: int) -> None:  # noqa: ANN401
    while num_lines(out) < number:
        assert process.is_alive(), (out.parent / "said").read_text()
        time.sleep(0.001)


def assert_same(left: Path, right: Path) -> None:
    for name in ("summary.json", "predictions.csv"):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name


@pytest.mark.slow
def test_killed_at_random_moments(arguments: list[str], undisturbed: Path, tmp_path: Path) -> None:
    out, draw = tmp_path / "out", random.Random(0)
    for _ in range(rounds(3, 10)):
        process = start(arguments, out)
        wait_for_lines(process, out, num_lines(out) + draw.randint(0, 2))
        time.sleep(draw.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL  # it was not done yet
        assert not (out / "summary.json").exists()
    process = start(arguments, out)
    process.join()
    assert process.exitcode == 1, (tmp_path / "said").read_text()
    assert_same(out, undisturbed)
    assert len({entry["row"] for entry in read_entries(out)}) == NUM_VIDEOS


@pytest.mark.slow
def test_shards_in_any_order(arguments: list[str], undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for shard, code in ((2, 0), (0, 0), (1, 1)):
        assert not (out / "summary.json").exists()
        process = start(arguments, out, "--num-shards", 3, "--shard", shard)
        process.join()
        assert process.exitcode == code, (tmp_path / "said").read_text()
    assert len(list(out.glob("journal-*-of-3.jsonl"))) == 3
    assert_same(out, undisturbed)


@pytest.mark.slow
def test_shards_at_the_same_time_one_killed_and_its_rows_done_by_others(
    arguments: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shards = [start(arguments, out, "--num-shards", 2, "--shard", shard) for shard in range(2)]
    wait_for_lines(shards[1], out, 8)
    shards[1].kill()
    for shard in shards:
        shard.join()
    assert (shards[0].exitcode, shards[1].exitcode) == (0, -signal.SIGKILL)
    process = start(arguments, out)  # alone
    process.join()
    assert process.exitcode == 1
    assert_same(out, undisturbed)
    results = [
        entry["row"] for path in out.glob("journal-*") for entry in read(path)[1] if not entry["error"]
    ]
    assert len(results) == len(set(results)) == NUM_VIDEOS - 2  # nothing was scored twice


@pytest.mark.slow
def test_under_a_launcher(arguments: list[str], undisturbed: Path, tmp_path: Path) -> None:
    """What `accelerate launch` starts on several GPUs; on a CPU it starts one process."""
    launcher = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "-m",
        "vqathinker.cli",
    )
    run = command(arguments, tmp_path / "out", *launcher)
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "out").glob("journal-*-of-2.jsonl"))) == 2
    assert_same(tmp_path / "out", undisturbed)


@pytest.mark.slow
def test_interrupted(arguments: list[str], undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(arguments, out)
    wait_for_lines(process, out, 6)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 130, said
    assert "Traceback" not in said
    assert f"interrupted; {num_lines(out) - 1} results are in {out}, the same command goes on" in said
    process = start(arguments, out)
    process.join()
    assert_same(out, undisturbed)


@pytest.mark.slow
def test_a_full_disk(arguments: list[str], undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(arguments, out, max_bytes=2500)
    process.join()
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 2, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("Error: [Errno 27] File too large")
    journal = out / "journal-0-of-1.jsonl"
    assert 1000 < journal.stat().st_size < 2500
    assert journal.read_bytes().endswith(b"\n")  # nothing of the line that did not fit
    assert f"{num_lines(out) - 1} results are in {out}, the same command goes on from there" in said
    process = start(arguments, out)
    process.join()
    assert_same(out, undisturbed)


def test_a_line_cut_anywhere_is_dropped(tmp_path: Path) -> None:
    entries = [{"row": row, "score": row / 2, "error": None, "text": "schön"} for row in range(3)]
    with Journal(tmp_path / "whole", {"size": 56}) as journal:
        for entry in entries:
            journal.append(entry)
    whole = journal.path.read_bytes()
    for length in range(len(whole)):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / journal.path.name).write_bytes(whole[:length])
        kept = list(read_entries(folder))
        assert kept == entries[: max(0, whole[:length].count(b"\n") - 1)]
        with Journal(folder, {"size": 56}) as again:
            for entry in entries[len(kept) :]:
                again.append(entry)
        assert again.path.read_bytes() == whole


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    with Journal(tmp_path, {}) as journal:
        journal.append({"row": 0})
    journal.path.write_bytes(journal.path.read_bytes() + b"\x00\x00\n{}\n")
    with pytest.raises(ValueError, match=r"journal-0-of-1.jsonl: line 3 is damaged; remove it"):
        read(journal.path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"fingerprint": "b", "sampling": {"top_k": 0}, "mean": [0.5, 0.5]},
            r'the model is another one \(.*\): its fingerprint is "a" there and "b" here',
        ),
        (
            {"fingerprint": "a", "sampling": {"top_k": 5}, "mean": [0.5, 0.5]},
            "sampling.top_k is 0 there and 5 here",
        ),
        ({"fingerprint": "a", "sampling": {"top_k": 0}}, r"mean is \[0.5, 0.5\] there and not set here"),
    ],
)
def test_results_of_another_run_are_refused(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = {"fingerprint": "a", "sampling": {"top_k": 0}, "mean": (0.5, 0.5), "checkpoint": "here"}
    with Journal(tmp_path, settings, (0, 2)) as journal:
        pass
    written = journal.path.read_bytes()
    for shard in ((0, 2), (1, 2), (0, 1)):
        with pytest.raises(ValueError, match=f"{journal.path} belongs to another run: {message}"):
            Journal(tmp_path, other, shard)
    assert journal.path.read_bytes() == written
    assert list(tmp_path.iterdir()) == [journal.path]
    Journal(tmp_path, settings | {"checkpoint": "there"}).__exit__(None, None, None)


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with (
        Journal(tmp_path, {}),
        pytest.raises(ValueError, match=r"another process is writing .*journal-0-of-1"),
    ):
        Journal(tmp_path, {})
    with Journal(tmp_path, {}), Journal(tmp_path, {}, (1, 2)):
        pass


def test_what_is_being_written_is_not_overwritten(tmp_path: Path) -> None:
    with (
        Journal(tmp_path, {}) as journal,
        pytest.raises(ValueError, match=r"another process is writing .*journal-0-of-1"),
    ):
        remove_all(tmp_path)
    assert journal.path.exists()
    remove_all(tmp_path)
    assert not journal.path.exists()


def test_a_refused_removal_removes_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path, {}, (0, 2)) as done:
        done.append({"row": 0, "score": 3.0, "error": None})
    with Journal(tmp_path, {}, (1, 2)), pytest.raises(ValueError, match="another process is writing"):
        remove_all(tmp_path)
    assert [entry["score"] for entry in read_entries(tmp_path)] == [3.0]


def test_a_line_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path, {}) as journal:
        journal.append({"row": 0, "text": "short"})
        size = journal.path.stat().st_size
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limit[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                journal.append({"row": 1, "text": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            signal.signal(signal.SIGXFSZ, before)
        assert journal.path.stat().st_size == size
        journal.append({"row": 1, "text": "fits now"})
    assert [entry["text"] for entry in read_entries(tmp_path)] == ["short", "fits now"]


def test_a_file_that_is_removed_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking another process may remove what it had locked itself."""
    path = tmp_path / "lines.jsonl"
    lock = journal_module._lock
    removed = []

    def lock_too_late(file: int, place: Path) -> None:
        if not removed:
            place.unlink()
            removed.append(place)
        lock(file, place)

    monkeypatch.setattr(journal_module, "_lock", lock_too_late)
    with Lines(path) as lines:
        lines.append({"row": 0})
    assert read_lines(path) == [{"row": 0}]


def test_every_shard_reads_the_same(tmp_path: Path) -> None:
    first = Keeping(tmp_path, shard=(0, 2)).open({})
    second = Keeping(tmp_path, shard=(1, 3)).open({})  # another division, so that both answer a row
    first.add({"row": 0, "score": 1.0, "error": None})
    second.add({"row": 0, "score": float("nan"), "error": None})
    for kept in (first, second):
        kept.read()
        kept.close()
    assert first.entries == second.entries == {0: {"row": 0, "score": 1.0, "error": None}}


def test_a_journal_that_cannot_be_read_is_let_go(tmp_path: Path) -> None:
    with Journal(tmp_path, {}) as journal:
        journal.append({"row": 0, "score": 1.0, "error": None})
    with journal.path.open("a") as file:
        file.write("no JSON\n")
    for _ in range(2):  # the second one finds it free
        with pytest.raises(ValueError, match="line 3 is damaged"):
            Keeping(tmp_path).open({})


def test_a_result_takes_the_place_of_an_unreadable_file(tmp_path: Path) -> None:
    with Journal(tmp_path, {}, (0, 2)) as first, Journal(tmp_path, {}, (1, 2)) as second:
        first.append({"row": 0, "score": float("nan"), "error": "no such file"})
        first.append({"row": 1, "score": 3.0, "error": None})
        second.append({"row": 0, "score": 4.0, "error": None})
        second.append({"row": 1, "score": float("nan"), "error": "no such file"})
    kept = Keeping(tmp_path, shard=(0, 2)).open({})
    kept.close()
    assert {row: entry["score"] for row, entry in kept.entries.items()} == {0: 4.0, 1: 3.0}


def test_two_may_write_one_file_at_a_time(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a") as outer:
        outer.write_text("outer")
        with whole_file(tmp_path / "a") as inner:
            inner.write_text("inner")
    assert (tmp_path / "a").read_text() == "outer"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_cells_of_a_table_may_hold_any_end_of_a_line(tmp_path: Path) -> None:
    rows = [
        {"a": text, "b": "x"} for text in ("soft\redges", "soft\nedges", "soft\r\nedges", "soft\u2028edges")
    ]
    write_table(tmp_path / "a.csv", ["a", "b"], rows)
    assert read_rows(tmp_path / "a.csv") == rows
