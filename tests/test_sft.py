"""Supervised batches: the prompt, then a templated answer that alone is learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from trl.trainer.sft_config import SFTConfig

from vqathinker import answers
from vqathinker.checkpoints.assemble import load_policy
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.video import read_keyframes
from vqathinker.rollout.answer import predict
from vqathinker.scale import WORDS
from vqathinker.training.packing import IGNORE
from vqathinker.training.sft.collate import SupervisedCollator, templated_answer
from vqathinker.training.sft.rows import check_samples
from vqathinker.training.sft.trainer import SupervisedTrainer
from vqathinker.training.unreadable import UnreadableVideos
from vqathinker.types import RunStopped

Policies = Callable[..., tuple[Any, Any]]


@given(st.floats(0, 6))
def test_answers_parse(target: float) -> None:
    parsed = answers.parse(templated_answer(target))
    assert parsed is not None
    assert parsed.score == pytest.approx(target, abs=0.005 + 1e-9)


@pytest.mark.parametrize(
    ("target", "level"),
    [(0.2, "bad"), (1.4, "bad"), (1.6, "poor"), (3.0, "fair"), (4.49, "good"), (5.3, "excellent")],
)
def test_levels(target: float, level: str) -> None:
    assert level in templated_answer(target)
    assert sum(name in templated_answer(target) for name in WORDS) == 1


@pytest.fixture
def rows(video: Path, make_video: Callable[..., Path], tmp_path: Path) -> list[dict[str, Any]]:
    other = make_video(tmp_path / "other.mp4", num_frames=20, size=(96, 96))
    return [
        {"path": str(video), "target": 1.234, "dataset": "a"},
        {"path": str(other), "target": 12.5, "dataset": "a"},  # a longer answer than the other
    ]


def test_labels_are_the_answer_and_its_end(
    policies: Policies, rows: list[dict[str, Any]], decoders: GuardedReader
) -> None:
    _, processor = policies()
    tokenizer = processor.tokenizer
    batch = SupervisedCollator(processor, decoders=decoders)(rows)
    prompt = processor.prompt_ids(6, 4)
    texts = [
        "<think>The quality is bad.</think><answer>1.23</answer>",
        "<think>The quality is excellent.</think><answer>12.50</answer>",
    ]
    for i, text in enumerate(texts):
        length = int(batch["attention_mask"][i].sum())
        assert batch["attention_mask"][i, :length].all()
        assert batch["input_ids"][i, : len(prompt)].tolist() == prompt
        reply = batch["input_ids"][i, len(prompt) : length]
        assert tokenizer.decode(reply) == text + tokenizer.eos_token
        assert reply[-1] == tokenizer.eos_token_id
        assert (batch["labels"][i, : len(prompt)] == -100).all()
        assert torch.equal(batch["labels"][i, len(prompt) : length], reply)
        assert (batch["labels"][i, length:] == -100).all()
        assert (batch["input_ids"][i, length:] == tokenizer.pad_token_id).all()
    assert len({int(row.sum()) for row in batch["attention_mask"]}) == 2  # one row is padded


def test_pixels_are_the_keyframes(
    policies: Policies, rows: list[dict[str, Any]], decoders: GuardedReader
) -> None:
    _, processor = policies()
    batch = SupervisedCollator(processor, decoders=decoders)(rows)
    expected = [processor.pixels(read_keyframes(row["path"], 6).frames, 56) for row in rows]
    assert torch.equal(batch["pixel_values"], torch.cat(expected))


@pytest.mark.parametrize("motion", ["slowfast", "fast", "none"])
def test_batch_is_learned_row_by_row(
    policies: Policies, rows: list[dict[str, Any]], decoders: GuardedReader, motion: str
) -> None:
    model, processor = policies(motion)
    collator = SupervisedCollator(processor, decoders=decoders)
    batch = collator(rows)
    with torch.no_grad():
        together = model(**batch).loss
        tokens = [int((collator([row])["labels"] != -100).sum()) for row in rows]
        alone = [model(**collator([row])).loss for row in rows]
    expected = sum(loss * n for loss, n in zip(alone, tokens, strict=True)) / sum(tokens)
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-5)


def test_unreadable_video_raises(
    policies: Policies,
    rows: list[dict[str, Any]],
    broken_videos: dict[str, Path],
    tmp_path: Path,
    decoders: GuardedReader,
) -> None:
    _, processor = policies()
    rows[1]["path"] = str(broken_videos["text"])
    with pytest.raises(VideoError, match="text"):
        SupervisedCollator(processor, decoders=decoders)(rows)
    unreadable = UnreadableVideos(tmp_path, 2, 0.5)
    collator = SupervisedCollator(processor, unreadable=unreadable, decoders=decoders)
    assert len(collator(rows)["input_ids"]) == 1
    assert unreadable.report.is_file()
    model, _ = policies()
    blank = collator(rows[1:])  # a batch of it alone teaches nothing
    assert (blank["labels"] == IGNORE).all()
    assert blank["pixel_values"].shape == collator(rows[:1])["pixel_values"].shape
    assert torch.isfinite(model(**{**blank, "labels": blank["input_ids"]}).loss)
    rows[0]["path"] = str(broken_videos["cut"])
    with pytest.raises(RunStopped, match=r"2 of 2 videos cannot be read, more than max_unreadable=0.5"):
        collator(rows)


def test_a_batch_without_a_readable_video_does_no_harm(
    tiny_checkpoint: Path,
    rows: list[dict[str, Any]],
    broken_videos: dict[str, Path],
    tmp_path: Path,
    decoders: GuardedReader,
) -> None:
    """Batches of one: the loss of the broken one is 0, and the weights go on by the other."""
    model, processor = load_policy(tiny_checkpoint)
    columns = {"dataset": "a", "video_id": ""}
    rows = [row | columns | {"target": 3.0, "video_id": str(i)} for i, row in enumerate(rows)]
    rows[1]["path"] = str(broken_videos["text"])
    args = SFTConfig(
        str(tmp_path), use_cpu=True, bf16=False, num_train_epochs=2, per_device_train_batch_size=1,
        per_device_eval_batch_size=1, eval_strategy="epoch", logging_steps=1, save_strategy="no",
        report_to="none", gradient_checkpointing=False, remove_unused_columns=False, max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True}, disable_tqdm=True,
    )  # fmt: skip
    trainer = SupervisedTrainer(
        model,
        args,
        processor=processor,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows),
        max_unreadable=0.5,
        decoders=decoders,
        eval_max_completion_length=4,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 4
    assert sorted(loss > 0 for loss in losses) == [False, False, True, True]
    found = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    alone = trainer.evaluate(Dataset.from_list(rows[:1]))["eval_loss"]
    assert found[-1] == pytest.approx(alone)
    assert math.isnan(trainer.evaluate(Dataset.from_list(rows[1:]))["eval_loss"])
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_a_column_of_reasoning_is_what_is_learned(
    policies: Policies, rows: list[dict[str, Any]], decoders: GuardedReader
) -> None:
    _, processor = policies()
    reasons = ["Strong blur.", None]
    batch = SupervisedCollator(processor, decoders=decoders)(
        [row | {"reasoning": why} for row, why in zip(rows, reasons, strict=True)]
    )
    texts = processor.tokenizer.batch_decode([labels[labels != -100] for labels in batch["labels"]])
    assert "<think>Strong blur.</think><answer>1.23</answer>" in texts[0]
    assert "<think>The quality is excellent.</think><answer>12.50</answer>" in texts[1]


@pytest.mark.parametrize("think", [True, False])
def test_validation_says_what_was_learned(
    tiny_checkpoint: Path,
    rows: list[dict[str, Any]],
    make_video: Callable[..., Path],
    decoders: GuardedReader,
    tmp_path: Path,
    think: bool,
) -> None:
    """Answers learned by heart, of which one is off the scale."""
    third = make_video(tmp_path / "third.mp4", num_frames=30, size=(64, 96))
    rows.append({"path": str(third), "target": 4.5, "dataset": "a"})
    model, processor = load_policy(tiny_checkpoint, dtype=torch.float32)
    dataset = Dataset.from_list([row | {"video_id": str(i)} for i, row in enumerate(rows)])
    args = SFTConfig(
        output_dir=str(tmp_path), max_steps=60, learning_rate=3e-3, per_device_train_batch_size=3,
        use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no",
        disable_tqdm=True, remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
    )  # fmt: skip
    run = SupervisedTrainer(
        model,
        args,
        processor=processor,
        train_dataset=dataset,
        eval_dataset=dataset,
        think=think,
        eval_max_completion_length=40,
        decoders=decoders,
    )
    before = run.evaluate()
    assert before["eval_parse_failures"] == 3
    run.train()
    metrics = run.evaluate()
    assert metrics["eval_loss"] < 0.1 < before["eval_loss"]
    assert metrics["eval_srcc"] == pytest.approx(1)
    assert (metrics["eval_clipped"], metrics["eval_parse_failures"]) == (1, 0)
    errors = [1.23 - 1.234, 5 - 12.5, 0]
    assert metrics["eval_rmse"] == pytest.approx((sum(error**2 for error in errors) / 3) ** 0.5)
    said = predict(run.model, processor, [row["path"] for row in rows], decoders=decoders, think=think)
    assert [prediction.text.startswith("<think>") for prediction in said] == [think] * 3


def test_an_answer_alone() -> None:
    assert templated_answer(3.417, "unused", think=False) == "<answer>3.42</answer>"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"path": "a.mp4", "target": math.nan}, "a has neither an answer nor a target"),
        ({"path": "a.mp4", "target": math.nan, "answer": None}, "a has neither an answer nor a target"),
    ],
)
def test_samples_that_cannot_be_taught_are_told_first(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_samples(Dataset.from_dict({name: [value] for name, value in {"video_id": "a", **row}.items()}))


def test_an_answer_needs_no_target() -> None:
    check_samples(
        Dataset.from_dict(
            {"video_id": ["a"], "path": ["a.mp4"], "target": [math.nan], "answer": ["It is blurred."]}
        )
    )
