"""The model card says what the checkpoint is, from what, with which figures, and how to score with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset
from test_trainer import RULES, make, rows, scripted, validation  # noqa: F401  fixtures
from trl import ModelConfig, SFTConfig

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.training import VQAThinkerTrainer
from vqathinker.training.card import Origin, render
from vqathinker.training.setup import lora
from vqathinker.training.sft.trainer import SupervisedTrainer

ROWS = Dataset.from_dict({"dataset": ["lsvq"] * 1200 + ["own"] * 3})
SCORES = Dataset.from_dict({"dataset": ["konvid"] * 40})


def validated(step: int, srcc: float) -> dict[str, Any]:
    return {"step": step, "eval_srcc": srcc, "eval_plcc": 0.5, "eval_rmse": 0.625, "eval_clipped": 2.0}


def test_the_text() -> None:
    history = [
        {"step": 9, "reward": 1.5, "rewards/format/mean": 1.0, "rewards/mine/mean": None},
        validated(10, 0.75),
        {"step": 20, "reward": 1.75, "rewards/format/mean": 0.9, "loss": 0.0},
        validated(20, 0.7),
    ]
    base = "/cache/hub/models--OpenGVLab--InternVL3-1B-hf/snapshots/12ab"
    origin = Origin("Fine-tuned with GRPO", base, ROWS, SCORES, {"rewards": "format × 1"}, answer_only=True)
    card = render(origin, history, 10, is_adapter=True)
    head = yaml.safe_load(card.split("---")[1])
    assert head["base_model"] == "OpenGVLab/InternVL3-1B-hf"
    assert head["pipeline_tag"] == "video-text-to-text"
    for part in (
        "# A LoRA adapter for a video language model that scores video quality",
        "Fine-tuned with GRPO from `OpenGVLab/InternVL3-1B-hf`, 10 steps, on lsvq (1,200 videos) and own",
        "vqathinker score PATH/TO/THIS/FOLDER clip.mp4 --answer-only",
        "Validation on konvid (40 videos), at step 10: SRCC 0.750, PLCC 0.500, RMSE 0.625, answers off",
        "Reward in training at step 9: 1.500 (format 1, mine undefined).",
        "* rewards: format × 1",
    ):
        assert part in card
    plain = render(Origin("Fine-tuned", "runs/sft/final", ROWS), [], 5, is_adapter=False)
    assert "base_model" not in plain
    assert "from `runs/sft/final`, 5 steps" in plain
    assert "No validation" in plain
    assert "--answer-only" not in plain


@pytest.mark.usefixtures("scripted")
def test_a_grpo_checkpoint_has_it(
    make: Callable[..., VQAThinkerTrainer],  # noqa: F811
    validation: Dataset,  # noqa: F811
    tiny_checkpoint: Path,
    tmp_path: Path,
) -> None:
    model = load_policy(tiny_checkpoint)[0]
    run = make(
        peft_config=lora(ModelConfig(use_peft=True), model), rewards={"format": RULES["format"]},
        eval_dataset=validation, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1,
        max_steps=2,
    )  # fmt: skip
    run.train()
    run.save_model(str(tmp_path / "final"))
    cards = {
        name: (tmp_path / name / "README.md").read_text() for name in ("out", "out/checkpoint-1", "final")
    }
    assert all("time machine" not in card and "None" not in card for card in cards.values())
    assert f"from `{tiny_checkpoint}`, 1 steps, on train (8 videos)" in cards["out/checkpoint-1"]
    entry = [entry for entry in run.state.log_history if "eval_srcc" in entry][-1]
    assert entry["step"] == 2
    assert "LoRA adapter" in cards["final"]
    assert "Validation on val (4 videos), at step 2: SRCC" in cards["final"]
    assert "* rewards: format × 1" in cards["final"]


def test_a_supervised_checkpoint_has_it(
    rows: Dataset,  # noqa: F811
    tiny_checkpoint: Path,
    tmp_path: Path,
) -> None:
    model, processor = load_policy(tiny_checkpoint)
    args = SFTConfig(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=2, use_cpu=True, bf16=False,
        gradient_checkpointing=False, report_to="none", save_strategy="no", max_length=None,
        disable_tqdm=True, remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    run = SupervisedTrainer(model, args, processor=processor, train_dataset=rows)
    run.train()
    run.save_model(str(tmp_path / "final"))
    card = (tmp_path / "final" / "README.md").read_text()
    assert f"Fine-tuned on templated answers from `{tiny_checkpoint}`, 1 steps, on train (8 videos)." in card
