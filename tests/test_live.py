"""What a user reads while a recipe trains, and what the log file holds."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from test_trainer import MODES, RULES, SETTINGS, ScriptedEngine
from trl import SFTConfig

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.data.dataset import load_labels
from vqathinker.training import TrainingConfig, VQAThinkerTrainer
from vqathinker.training.grpo import trainer
from vqathinker.training.live import LOG_FILE, Column, LiveTable, grpo_columns, log_file
from vqathinker.training.sft.trainer import SupervisedTrainer


@pytest.fixture
def sets(labelled_videos: Path) -> tuple[Dataset, Dataset]:
    train, validation = (
        load_labels(labelled_videos / f"{name}.csv", video_dir=labelled_videos, mos_range=(1, 5))
        for name in ("train", "val")
    )
    return train, validation


def test_grpo_in_the_terminal_and_in_the_log_file(
    sets: tuple[Dataset, Dataset],
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(trainer, "HFEngine", ScriptedEngine)
    monkeypatch.setattr("vqathinker.rollout.answer.HFEngine", ScriptedEngine)
    model, processor = load_policy(tiny_checkpoint, dtype=torch.float32)
    options: dict[str, Any] = {**SETTINGS, "disable_tqdm": False, "max_steps": 2, "log_completions": True}
    args = TrainingConfig(**options, output_dir=str(tmp_path), eval_strategy="steps", eval_steps=2)
    run = VQAThinkerTrainer(
        model,
        args,
        processor=processor,
        rewards=RULES,
        perturbations=MODES,
        train_dataset=sets[0],
        eval_dataset=sets[1],
    )
    capsys.readouterr()  # bars of the loading
    run.train()
    seen = capsys.readouterr()
    assert seen.out == ""  # neither a dictionary nor a table of responses
    lines = [line for line in seen.err.splitlines() if line and not line.startswith(("\r", "["))]
    assert lines[0] == f"2 steps; every figure is in {tmp_path / LOG_FILE}"
    assert lines[1].split() == (
        ["step", "reward", *RULES, "SRCC", "unparsed", "KL", "tokens", "s/step", "left"]
    )
    entries = [entry for entry in run.state.log_history if "reward" in entry]
    for line, entry, step in zip(lines[2:4], entries, ("1/2", "2/2"), strict=True):
        cells = line.split()
        assert cells[:2] == [step, f"{entry['reward']:.3f}"]
        assert cells[2:6] == [f"{entry[f'rewards/{name}/mean']:.3f}" for name in RULES]
    validated = next(entry for entry in run.state.log_history if "eval_srcc" in entry)
    assert lines[4].startswith(f"step 2, validation: SRCC {validated['eval_srcc']:.3f}, PLCC ")
    assert lines[5].startswith("2 steps, ")
    assert len(lines) == 6
    assert (tmp_path / "completions" / "completions_00002.parquet").is_file()
    logged = (tmp_path / LOG_FILE).read_text().splitlines()
    (first,) = [line for line in logged if "step 1: {" in line]
    assert (
        json.loads(first.partition("step 1: ")[2]).items()
        >= {
            "reward": entries[0]["reward"],
            "grad_norm": entries[0]["grad_norm"],
        }.items()
    )


def test_supervised_training_in_the_terminal(
    sets: tuple[Dataset, Dataset], tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, processor = load_policy(tiny_checkpoint, dtype=torch.float32)
    args = SFTConfig(
        output_dir=str(tmp_path), max_steps=4, logging_steps=2, per_device_train_batch_size=2, use_cpu=True,
        bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no", max_length=None,
        remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    run = SupervisedTrainer(model, args, processor=processor, train_dataset=sets[0])
    capsys.readouterr()
    run.train()
    seen = capsys.readouterr()
    assert seen.out == ""
    lines = [line for line in seen.err.splitlines() if line and not line.startswith(("\r", "["))]
    assert lines[1].split() == ["step", "loss", "token", "accuracy", "rate", "s/step", "left"]
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert [line.split()[:2] for line in lines[2:4]] == [
        ["2/4", f"{losses[0]:.4f}"],
        ["4/4", f"{losses[1]:.4f}"],
    ]


def test_other_processes_and_a_quiet_terminal_write_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for is_main, is_quiet in ((False, False), (True, True)):
        table = LiveTable(grpo_columns(["format"]))
        args = SimpleNamespace(output_dir="out", disable_tqdm=is_quiet)
        state = SimpleNamespace(global_step=1, max_steps=2, is_world_process_zero=is_main)
        table.on_train_begin(args, state, None)
        table.on_log(args, state, None, {"reward": 1.0})
    assert capsys.readouterr().err == ""


def test_undefined_figures() -> None:
    column = Column("SRCC", "scores/srcc")
    assert column.cell({"scores/srcc": float("nan")}) == column.cell({}) == "-"
    assert column.cell({"scores/srcc": None}) == "-"
    assert column.cell({"scores/srcc": 0.5}) == "0.500"


def test_warnings_stay_in_the_terminal_and_go_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # as in a program of its own
    for number in range(2):  # the second is a resumed run
        with log_file(tmp_path, write=True):
            logging.getLogger("vqathinker.media").warning("skipped %d", number)
    assert root.handlers == []
    assert capsys.readouterr().err == "skipped 0\nskipped 1\n"
    assert (tmp_path / LOG_FILE).read_text().count("WARNING vqathinker.media: skipped") == 2
    with log_file(tmp_path / "other", write=False):
        sys.stderr.write("")
    assert not (tmp_path / "other").exists()
