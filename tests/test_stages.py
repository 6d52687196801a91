"""Stages of tuning: batches of videos, pictures and pairs, parts that learn, and every shipped stage."""

from __future__ import annotations

import json
import math
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import in_soak, tiny_checkpoints, write_video
from datasets import Dataset
from PIL import Image
from safetensors.torch import load_file
from trl.trainer.model_config import ModelConfig
from trl.trainer.sft_config import SFTConfig

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.checkpoints.transfer import transfer
from vqathinker.data.dataset import load_labels
from vqathinker.data.mixture import chosen, mix
from vqathinker.launch import read_settings
from vqathinker.launch.effects import without_effect
from vqathinker.launch.recipes import settings_file
from vqathinker.launch.settings import FIXED, merge
from vqathinker.launch.stages import PARTS, rates_of, sources_of, wrong_stage
from vqathinker.media.guarded import GuardedReader
from vqathinker.model.probe import Probe
from vqathinker.prompts import LEVEL_QUESTION
from vqathinker.rollout.answer import predict
from vqathinker.samples import Media, Sample, write_samples
from vqathinker.scale import VQA2_WORDS
from vqathinker.training.packing import IGNORE
from vqathinker.training.setup import SupervisedDataConfig, load_mixture
from vqathinker.training.sft.collate import SupervisedCollator
from vqathinker.training.sft.objective import LossConfig, Targets, objective
from vqathinker.training.sft.parts import freeze_others, part_of
from vqathinker.training.sft.rows import check_samples, tell_levels
from vqathinker.training.sft.trainer import SupervisedTrainer

ROOT = Path(__file__).parents[1]
STAGES = sorted((ROOT / "recipes/stages").glob("*.yaml"))
QUICK = {"vital_pretraining", "score2instruct_2"}
LARGE = [
    pytest.param(path, id=path.stem) if path.stem in QUICK else in_soak(path, name=path.stem)
    for path in STAGES
    if path.stem != "laptop"
]
ONE_STEP = {"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0}
RESPONSES = [f"The quality of the {kind} is {word}." for kind in ("video", "image") for word in VQA2_WORDS]
SHARES = (0.1, 0.6, 0.2, 0.1, 0.0)
Policies = Callable[..., tuple[Any, Any]]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint for each motion variant, whose tokenizer knows the words of VQA² and VITAL."""
    return tiny_checkpoints(tmp_path_factory.mktemp("stages"), responses=RESPONSES)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and two pictures, and samples of every kind about them."""
    video, other, picture, image = (Media(name) for name in ("a.mp4", "b.mp4", "a.png", "b.png"))
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    for name in "ab":
        write_video(folder / f"{name}.mp4", 20, (64, 48))
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).save(folder / f"{name}.png")
    known = {"target": 4.0, "spread": 0.3, "levels": list(SHARES)}
    samples = [
        Sample("score", "s", (video,), question="", answer="The quality of the video is good.",
               target=3.9, levels=SHARES),
        Sample("picture", "s", (picture,), question="", answer="The quality of the image is fair.",
               target=3.0, levels=SHARES),
        Sample("named", "s", (other,), task="recognition", question="", answer="mild H264 compression"),
        Sample("asked", "s", (image,), task="question", question="What is wrong?", answer="It is soft."),
        Sample("chain", "s", (other,), task="description", question="How is it?", answer="It is sharp."),
        Sample("pair", "s", (video, other), task="pair", question="", preference=1.0,
               columns={"first": known, "second": known}),
        Sample("both", "s", (picture, other), task="question", question="Which is better?",
               answer="The second."),
    ]  # fmt: skip
    write_samples(folder / "samples.jsonl", samples)
    return folder


@pytest.fixture
def rows(media: Path) -> dict[str, dict[str, Any]]:
    loaded = load_labels(media / "samples.jsonl", video_dir=media, pairs=True)
    return {row["video_id"]: row for row in loaded if row["task"] != "description"}


def test_rows_of_samples(rows: dict[str, dict[str, Any]], media: Path) -> None:
    assert rows["pair"]["beside"] == str(media / "b.mp4")
    assert (rows["pair"]["preference"], rows["score"]["preference"]) == (1.0, None)
    assert rows["pair"]["levels"] == [*SHARES, *SHARES]
    assert (rows["score"]["levels"], rows["named"]["levels"]) == (list(SHARES), None)
    with pytest.raises(ValueError, match="it has two media"):
        load_labels(media / "samples.jsonl", video_dir=media)


@pytest.mark.parametrize("motion", ["slowfast", "fast", "none"])
def test_videos_and_pictures_in_one_batch(
    policies: Policies, rows: dict[str, dict[str, Any]], decoders: GuardedReader, motion: str
) -> None:
    """A batch costs what its rows cost alone, and prompts are those of scoring."""
    model, processor = policies(motion)
    losses = LossConfig(level_loss="words", pair_level_weight=0.5)
    collator = SupervisedCollator(processor, decoders=decoders, losses=losses)
    batch = collator(list(rows.values()))
    assert len(batch["input_ids"]) == 7  # the pair is two
    assert batch["video_frames"].tolist() == [list(range(start, start + 6)) for start in (0, 7, 14, 20, 27)]
    assert batch["level_places"].tolist().count(-1) == 3
    with torch.no_grad():
        together = logits_of(model, batch)
        number = 0
        for row in rows.values():
            alone = collator([row])
            own = logits_of(model, alone)
            for i, length in enumerate(alone["attention_mask"].sum(dim=1).tolist()):
                found = together[number, :length]
                torch.testing.assert_close(found, own[i, :length], rtol=1e-3, atol=1e-4)
                number += 1
    prompt = processor.prompt_ids(1, 4, question="What is wrong?", is_image=True)
    assert batch["input_ids"][3, : len(prompt)].tolist() == prompt


def logits_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    names = ("input_ids", "attention_mask", "pixel_values", "video_frames")
    found: torch.Tensor = model(**{name: batch[name] for name in names}).logits
    return found


def test_a_level_is_the_last_thing_said(
    policies: Policies, rows: dict[str, dict[str, Any]], decoders: GuardedReader
) -> None:
    _, processor = policies()
    losses = LossConfig(level_loss="words")
    collator = SupervisedCollator(processor, decoders=decoders, losses=losses)
    batch = collator([rows["score"], rows["picture"], rows["pair"]])
    tokenizer = processor.tokenizer
    for number, text in enumerate(["video is good", "image is fair", "video is high", "video is high"]):
        place = int(batch["level_places"][number])
        assert place == int(batch["attention_mask"][number].sum()) - 1
        assert tokenizer.decode(batch["input_ids"][number, : place + 1]).endswith(
            f"The quality of the {text}"
        )
        learned = batch["labels"][number] != IGNORE
        assert (
            tokenizer.decode(batch["labels"][number][learned])
            == "The quality of the " + text[: text.rindex(" ")]
        )
        assert batch["levels"][number].tolist() == pytest.approx(SHARES)
    assert batch["preference"].isnan().tolist() == [True, True, False, True]
    plain = SupervisedCollator(processor, decoders=decoders)([rows["score"]])  # without, the word is text
    learned = plain["labels"][0] != IGNORE
    assert (
        tokenizer.decode(plain["labels"][0][learned])
        == "The quality of the video is good." + tokenizer.eos_token
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"beside": "b.mp4", "answer": None}, "a has two media and neither an answer nor a preference"),
        ({"levels": list(SHARES), "answer": "It is good."}, "does not say 'The quality of the video is'"),
        ({"levels": list(SHARES), "answer": "The quality of the video is bad."}, "one of high, good, fair"),
        ({"levels": list(SHARES), "answer": None, "target": math.nan, "level_loss": "none"}, "neither an"),
    ],
)
def test_samples_that_cannot_be_taught(columns: dict[str, Any], message: str) -> None:
    losses = LossConfig(level_loss=columns.pop("level_loss", "words"))
    row = {"video_id": "a", "path": "a.mp4", "target": 3.0, **columns}
    with pytest.raises(ValueError, match=message):
        check_samples(Dataset.from_list([row]), losses)


def test_a_pair_with_an_answer_shows_both(
    policies: Policies, rows: dict[str, dict[str, Any]], decoders: GuardedReader
) -> None:
    """Also where levels are known: its answer is text."""
    _, processor = policies()
    collator = SupervisedCollator(processor, decoders=decoders, losses=LossConfig(level_loss="words"))
    row = rows["both"] | {"levels": [*SHARES, *SHARES]}
    batch = collator([row])
    assert len(batch["pixel_values"]) == 7
    assert batch["level_places"].tolist() == [-1]


def test_levels_of_a_pair_belong_to_its_media(tmp_path: Path) -> None:
    pair = Sample("p", "s", (Media("a.mp4"), Media("b.mp4")), task="pair", preference=1.0, levels=SHARES)
    write_samples(tmp_path / "pairs.jsonl", [pair])
    with pytest.raises(ValueError, match="stand in its columns first and second"):
        load_labels(tmp_path / "pairs.jsonl", video_dir=tmp_path, pairs=True)


def level_rows(*questions: str | None, answer: str | None = "The quality of the video is good.") -> Dataset:
    """Rows of the task `score`."""
    row = {"video_id": "a", "path": "a.mp4", "target": 3.0, "levels": list(SHARES), "answer": answer}
    return Dataset.from_list([row | {"question": question} for question in questions])


@pytest.mark.parametrize(
    ("dataset", "losses", "question"),
    [
        (level_rows("", ""), LossConfig(level_loss="words"), ""),
        (level_rows("", ""), LossConfig(), ""),  # of a sentence that is learned as text
        (level_rows(None, None), LossConfig(level_loss="words"), "Rate the quality from 1 to 5."),
        (level_rows("Why?", "How?", "How?"), LossConfig(), "How?"),
        (level_rows("Why?", LEVEL_QUESTION), LossConfig(), LEVEL_QUESTION),
    ],
    ids=str,
)
def test_a_checkpoint_knows_what_its_levels_are_asked_by(
    dataset: Dataset, losses: LossConfig, question: str, policies: Policies
) -> None:
    _, processor = policies()
    assert tell_levels(processor, losses, dataset)
    assert processor.level_question == question
    assert processor.level_words == list(VQA2_WORDS)


def test_words_are_those_that_are_said(policies: Policies) -> None:
    _, processor = policies()
    assert tell_levels(processor, LossConfig(), level_rows("", answer="The quality of the image is low."))
    assert processor.level_words == list(VQA2_WORDS)
    usual = list(processor.level_words)
    assert not tell_levels(processor, LossConfig(), level_rows("", answer="It is low."))
    assert not tell_levels(processor, LossConfig(text_loss="focal"), level_rows(None, answer=None))
    assert processor.level_words == usual
    with pytest.raises(ValueError, match="level_loss 'words' needs samples with levels"):
        tell_levels(processor, LossConfig(level_loss="words"), Dataset.from_list([{"video_id": "a"}]))


def test_every_weight_belongs_to_a_part(policies: Policies) -> None:
    model, _ = policies("fast")
    model.model.slowfast.unfreeze()
    parts = [part_of(name) for name, _ in model.named_parameters()]
    assert set(parts) == set(PARTS)
    assert part_of("base_model.model.model.language_model.layers.0.mlp.up_proj.weight") == "language_model"


@pytest.mark.parametrize("motion", ["slowfast", "fast"])
def test_slowfast_learns_and_its_statistics_stay(policies: Policies, motion: str) -> None:
    model, _ = policies(motion)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    frames = torch.rand(2, 6, 3, 56, 56)
    expected = model.model.motion_features(frames)
    freeze_others(model, ["slowfast"])
    model.train()
    assert set(model.state_dict()) == set(before)
    found = model.model.motion_features(frames)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None:
                weight -= 0.01 * weight.grad
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not any("running" in name or "num_batches" in name for name in changed)
    assert all(part_of(name) == "slowfast" for name in changed)


def test_a_model_without_motion_has_no_such_part(policies: Policies) -> None:
    with pytest.raises(ValueError, match="the model has no slowfast"):
        freeze_others(policies("none")[0], ["slowfast"])


def trained(
    folder: Path, out: Path, rows: Path, decoders: GuardedReader, **options: Any
) -> SupervisedTrainer:
    """A trainer after a few steps on samples."""
    model, processor = load_policy(folder)
    settings = {"max_steps": 2, "per_device_train_batch_size": 3, "logging_steps": 1, "save_strategy": "no"}
    settings |= options.pop("settings", {})
    settings = {"gradient_checkpointing": False} | settings
    settings |= FIXED["tune"] | {"use_cpu": True, "bf16": False}
    args = SFTConfig(str(out), report_to="none", disable_tqdm=True, **settings)
    dataset = load_labels(rows, video_dir=rows.parent, pairs=True)
    trainer = SupervisedTrainer(
        model, args, processor=processor, train_dataset=dataset, decoders=decoders, **options
    )
    trainer.train()
    return trainer


def test_parts_learn_at_their_rates(
    checkpoints: dict[str, Path], media: Path, tmp_path: Path, decoders: GuardedReader
) -> None:
    parts = {"vision_tower": 1e-3, "motion_projector": None}
    run = trained(
        checkpoints["fast"], tmp_path, media / "samples.jsonl", decoders, parts=parts,
        settings={"learning_rate": 1e-2, "lr_scheduler_type": "constant", "weight_decay": 0.1},
    )  # fmt: skip
    before = load_file(checkpoints["fast"] / "model.safetensors")
    after = run.model.state_dict()
    changed = {part_of(name) for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == set(parts)
    names = {id(weight): name for name, weight in run.model.named_parameters()}
    rates = {
        (part_of(names[id(weight)]), group["lr"], group["weight_decay"])
        for group in run.optimizer.param_groups
        for weight in group["params"]
    }
    assert rates == {
        ("vision_tower", 1e-3, 0.1), ("vision_tower", 1e-3, 0.0),
        ("motion_projector", 1e-2, 0.1), ("motion_projector", 1e-2, 0.0),
    }  # fmt: skip
    told = [entry for entry in run.state.log_history if "loss" in entry]
    assert {"loss/text", "loss/pairs"} <= set().union(*told)


@pytest.mark.parametrize("motion", ["slowfast", "fast"])
@pytest.mark.parametrize("name", ["picture", "asked", "pair", "both"])
def test_every_weight_that_learns_has_a_gradient(
    policies: Policies, rows: dict[str, dict[str, Any]], decoders: GuardedReader, motion: str, name: str
) -> None:
    """In a batch of pictures alone too: processes that share gradients wait for all of them."""
    model, processor = policies(motion)
    freeze_others(model, list(PARTS))
    model.train()
    losses = LossConfig(level_loss="words")
    batch = SupervisedCollator(processor, decoders=decoders, losses=losses)([rows[name]])
    told = Targets.take(batch)
    positions = told.positions()
    processor.level_words = list(losses.words)
    logits = model(**batch, logits_to_keep=positions).logits
    objective(logits, positions, told, losses, processor.level_ids).total.backward()
    without = {part_of(n) for n, weight in model.named_parameters() if weight.grad is None}
    assert without == set()


def test_checkpointing_changes_nothing(
    checkpoints: dict[str, Path], media: Path, tmp_path: Path, decoders: GuardedReader
) -> None:
    """Of parts in front of a frozen language model."""
    found = []
    for checkpointing in (False, True):
        run = trained(
            checkpoints["fast"], tmp_path / str(checkpointing), media / "samples.jsonl", decoders,
            parts={"vision_tower": None, "slowfast": None},
            settings=ONE_STEP | {"gradient_checkpointing": checkpointing},
        )  # fmt: skip
        found.append(run.model.state_dict())
    before = load_file(checkpoints["fast"] / "model.safetensors")
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=1e-4, atol=1e-5)
    changed = {part_of(name) for name, tensor in before.items() if not torch.equal(tensor, found[1][name])}
    assert changed == {"vision_tower", "slowfast"}


def test_accumulated_steps_weigh_samples_alike(
    checkpoints: dict[str, Path], media: Path, tmp_path: Path, decoders: GuardedReader
) -> None:
    """Six samples at once, or in three batches of two, are one step."""
    found = []
    for size, parts in ((6, 1), (2, 3)):
        run = trained(
            checkpoints["slowfast"], tmp_path / str(size), media / "samples.jsonl", decoders,
            losses=LossConfig(level_loss="words", text_loss="focal"),
            settings=ONE_STEP | {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts},
        )  # fmt: skip
        found.append(run.model.state_dict())
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=1e-3, atol=1e-4)


def test_levels_are_learned_and_read(
    checkpoints: dict[str, Path], media: Path, tmp_path: Path, decoders: GuardedReader
) -> None:
    """Of one sample the distribution is learned, the checkpoint says how to read it, and it is not asked."""
    one = tmp_path / "one.jsonl"
    sample = Sample("score", "s", (Media(str(media / "a.mp4")),), question="", target=3.6, levels=SHARES)
    write_samples(one, [sample])
    run = trained(
        checkpoints["slowfast"], tmp_path / "run", one, decoders, losses=LossConfig(level_loss="words"),
        eval_dataset=load_labels(one, video_dir=tmp_path),
        settings={"max_steps": 40, "learning_rate": 1e-3, "lr_scheduler_type": "constant",
                  "eval_strategy": "steps", "eval_steps": 20},
    )  # fmt: skip
    first, last = (entry for entry in run.state.log_history if "eval_loss" in entry)
    assert last["eval_loss"] < first["eval_loss"]
    assert (last["eval_parse_failures"], last["eval_unreadable"]) == (0, 0)
    run.save_model(str(tmp_path / "final"))
    model, processor = load_policy(tmp_path / "final")
    assert processor.level_words == ["high", "good", "fair", "poor", "low"]
    assert processor.level_question == ""
    (said,) = predict(
        model, processor, [str(media / "a.mp4")], setting=processor.training, decoders=decoders, levels=True
    )
    weights = (5, 4, 3, 2, 1)
    assert said.score == pytest.approx(sum(w * p for w, p in zip(weights, SHARES, strict=True)), abs=0.15)


def test_an_adapter_is_no_part(
    checkpoints: dict[str, Path], media: Path, tmp_path: Path, decoders: GuardedReader
) -> None:
    from peft import LoraConfig

    with pytest.raises(ValueError, match="leave out parts or use_peft"):
        trained(
            checkpoints["none"], tmp_path, media / "samples.jsonl", decoders, parts={"vision_tower": None},
            peft_config=LoraConfig(target_modules=["q_proj"]),
        )  # fmt: skip


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_opens_with_its_launch_line(path: Path) -> None:
    opening = path.read_text(encoding="utf-8").splitlines()[0]
    stage = "vital_pretraining laptop" if path.stem == "laptop" else path.stem
    assert opening.startswith(f"# vqathinker train tune --config {stage} --model_name_or_path ")


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_is_read(path: Path) -> None:
    told = merge("tune", path, ["--use_cpu", "true", "--bf16", "false"], shared=settings_file("tune"))
    data, losses, args, _ = told.build(SupervisedDataConfig, LossConfig, SFTConfig, ModelConfig)
    assert set(rates_of(data.parts) if data.parts else {}) <= set(PARTS)
    assert args.report_to == []
    assert losses.text_loss == ("focal" if "vital" in path.stem else "cross_entropy")
    assert (args.seed, args.lr_scheduler_type) == (42, "cosine")  # of tune.yaml


def tune(monkeypatch: pytest.MonkeyPatch, *options: object) -> None:
    """Run the recipe in this process."""
    monkeypatch.syspath_prepend(ROOT / "recipes")
    words = ["--disable_tqdm", "true", *map(str, options)]
    monkeypatch.setattr("sys.argv", ["tune.py", *words])
    runpy.run_path(str(ROOT / "recipes/tune.py"), run_name="__main__")


@pytest.mark.parametrize("path", LARGE)
def test_a_stage_runs_on_a_laptop(
    path: Path, checkpoints: dict[str, Path], media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(
        monkeypatch, "--config", path.stem, "laptop", "--model_name_or_path", checkpoints["fast"],
        "--train_labels", media / "samples.jsonl", "--train_videos", media, "--output_dir", tmp_path,
        "--max_steps", 2, "--warmup_steps", 0,
    )  # fmt: skip
    assert "step 2: " in (tmp_path / "train.log").read_text()
    told = merge("tune", path, [], shared=settings_file("tune"))
    if told["use_peft"]:
        stored = load_file(tmp_path / "final/adapter_model.safetensors")
        assert all(".language_model." in name and ".lora_" in name for name in stored)
        return
    before, after = (load_file(f / "model.safetensors") for f in (checkpoints["fast"], tmp_path / "final"))
    changed = {part_of(name) for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == set(rates_of(told["parts"]))


@pytest.mark.slow
def test_a_stage_goes_on_with_the_parts_that_it_began_with(
    checkpoints: dict[str, Path], media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A killed run and one that ran through end with the same weights, SlowFast's among them."""
    shared = [
        "--config", "vital_pretraining", "laptop", "--model_name_or_path", checkpoints["fast"],
        "--train_labels", media / "samples.jsonl", "--train_videos", media, "--warmup_steps", 0,
        "--lr_scheduler_type", "constant", "--save_strategy", "steps", "--save_steps", 1,
        "--per_device_train_batch_size", 3,
    ]  # fmt: skip
    tune(monkeypatch, *shared, "--output_dir", tmp_path / "whole", "--max_steps", 2)
    tune(monkeypatch, *shared, "--output_dir", tmp_path / "cut", "--max_steps", 1)
    resumed = [
        *shared,
        "--output_dir",
        tmp_path / "cut",
        "--max_steps",
        2,
        "--resume_from_checkpoint",
        "true",
    ]
    for parts in (["vision_tower"], ["vision_tower", "slowfast", "language_model"]):
        with pytest.raises(SystemExit):
            tune(monkeypatch, *resumed, "--allow_changes", "true", "--parts", *parts)
        assert "the optimiser of the run that is resumed has other weights" in capsys.readouterr().err
    tune(monkeypatch, *resumed, "--parts", "vision_tower", "slowfast=1e-9")
    assert "has no effect on a resumed run" in capsys.readouterr().err
    whole, cut = (load_file(tmp_path / name / "final/model.safetensors") for name in ("whole", "cut"))
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, cut[name], rtol=1e-4, atol=1e-6)


def test_the_encoder_of_one_and_the_language_model_of_another(
    checkpoints: dict[str, Path], video: Path, tmp_path: Path
) -> None:
    """What the encoder sees is the encoder's, what is said of it the decoder's, which is wider."""
    tuned, processor = load_policy(checkpoints["fast"])
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            weight += 0.01 * torch.randn_like(weight) if "vision_tower" in name else 0
        tuned.model.slowfast.blocks[0].multipathway_blocks[1].conv.weight += 0.1
    processor.level_words = ["high", "good", "fair", "poor", "low"]
    for part in (tuned, processor):
        part.save_pretrained(tmp_path / "tuned")
    build_tiny(tmp_path / "wider", motion="fast", responses=RESPONSES, text={"hidden_size": 192})
    transfer(tmp_path / "tuned", tmp_path / "wider", tmp_path / "zero")
    model, own = load_policy(tmp_path / "zero")
    other, _ = load_policy(tmp_path / "wider")
    found, eyes, rest = (one.state_dict() for one in (model, tuned, other))
    assert found.keys() == rest.keys()
    for name, tensor in found.items():
        source = eyes if part_of(name) in {"vision_tower", "slowfast"} else rest
        assert torch.equal(tensor, source[name]), name
    assert own.level_words == processor.level_words
    said = list(predict(model, own, [str(video)], setting=own.training))
    assert said[0].error is None
    with pytest.raises(ValueError, match="is not empty"):
        transfer(tmp_path / "tuned", tmp_path / "wider", tmp_path / "zero")
    transfer(tmp_path / "tuned", tmp_path / "wider", tmp_path / "zero", overwrite=True)


def test_an_encoder_that_does_not_fit(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="differ in motion"):
        transfer(checkpoints["fast"], checkpoints["slowfast"], tmp_path / "out")
    build_tiny(tmp_path / "other", motion="fast", vision={"hidden_size": 96})
    with pytest.raises(ValueError, match=r"differ in vision_config\.hidden_size"):
        transfer(tmp_path / "other", checkpoints["fast"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("full", [False, True])
def test_a_probe_learns_levels(
    full: bool, checkpoints: dict[str, Path], labelled_videos: Path, tmp_path: Path
) -> None:
    recipe = runpy.run_path(str(ROOT / "recipes/probe.py"))
    broken = labelled_videos / "broken.mp4"
    broken.write_bytes(b"no video")
    (labelled_videos / "more.csv").write_text((labelled_videos / "val.csv").read_text() + "broken.mp4,3\n")
    recipe["main"](
        str(checkpoints["fast"]), labelled_videos / "train.csv", labelled_videos, mos_range=(1, 5),
        test=(labelled_videos / "more.csv", labelled_videos), out=tmp_path / "new",
        epochs=2, batch_size=4, full=full,
    )  # fmt: skip
    result = json.loads((tmp_path / "new/probe.json").read_text())
    assert all(1 <= row["score"] <= 5 for row in result["scores"][:4])
    assert (result["scores"][4]["score"], list(result["unreadable"])) == (None, [str(broken)])
    assert load_file(tmp_path / "new/probe.safetensors")["head.weight"].shape == (5, 4 * 480)
    model, _ = load_policy(checkpoints["fast"])
    eyes = 0
    if full:
        model.model.slowfast.unfreeze(fast=True)
        seen = [*model.model.vision_tower.parameters(), *model.model.slowfast.parameters()]
        eyes = sum(weight.numel() for weight in seen)
    widths = [64, 64, 64, model.model.slowfast.fast_dim]
    assert result["weights"] == sum(480 * width + 480 for width in widths) + 4 * 480 * 5 + 5 + eyes


def test_a_probe_is_not_measured_on_what_it_saw(
    checkpoints: dict[str, Path], labelled_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = runpy.run_path(str(ROOT / "recipes/probe.py"))
    seen = labelled_videos / "train.csv"
    with pytest.raises(SystemExit):
        recipe["main"](
            str(checkpoints["fast"]), seen, labelled_videos, test=(seen, labelled_videos), out=tmp_path
        )
    assert "8 of 8 validation videos are training videos too" in capsys.readouterr().err


def test_a_probe_looks_at_three_depths(policies: Policies) -> None:
    """Against the layers called one after the other."""
    model, _ = policies("fast")
    probe = Probe(model.model)
    pixels = torch.rand(2, 6, 3, 56, 56)
    tower = model.model.vision_tower
    with torch.no_grad():
        hidden = tower.embeddings(pixels.flatten(0, 1))
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        expected = []
        for layer in tower.encoder.layer:
            hidden = layer(hidden)
            expected.append(hidden)
        tokens = probe._tokens(pixels)
    for found, place in zip(tokens[:3], (0, 1, 1), strict=True):
        torch.testing.assert_close(found, expected[place].unflatten(0, (2, 6)).flatten(1, 2))
    torch.testing.assert_close(tokens[3], model.model.slowfast.fast_features(pixels))


def launched(name: str, folder: Path, checkpoint: Path, media: Path, *options: str) -> None:
    """Run two steps of VITAL's first stage in two processes of a shipped configuration."""
    settings = yaml.safe_load((ROOT / f"recipes/accelerate/{name}.yaml").read_text())
    settings |= {"num_processes": 2, "use_cpu": True, "main_process_port": 0}
    (folder / "accelerate.yaml").write_text(yaml.safe_dump(settings))
    words = [
        "-m", "accelerate.commands.launch", "--config_file", folder / "accelerate.yaml",
        ROOT / "recipes/tune.py", "--config", "vital_pretraining", "laptop",
        "--model_name_or_path", checkpoint,
        "--train_labels", media / "samples.jsonl", "--train_videos", media, "--output_dir", folder / "out",
        "--max_steps", "2", "--per_device_train_batch_size", "1", "--warmup_steps", "0", *options,
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("cpu_two", [], id="two processes"),
        pytest.param(
            "zero2", ["--bf16", "true", "--dtype", "bfloat16"], id="zero2 in bf16", marks=pytest.mark.vllm
        ),
    ],
)
def test_a_stage_in_two_processes(
    name: str, options: list[str], checkpoints: dict[str, Path], media: Path, tmp_path: Path
) -> None:
    """A picture in one process meets a video in the other; the encoder learns, the decoder does not."""
    launched(name, tmp_path, checkpoints["fast"], media, *options)
    before = load_file(checkpoints["fast"] / "model.safetensors")
    after = load_file(tmp_path / "out/final/model.safetensors")
    changed = {
        part_of(weight)
        for weight, tensor in before.items()
        if not torch.equal(tensor.to(after[weight].dtype), after[weight])
    }
    assert changed == {"vision_tower", "slowfast"}


def test_slowfast_counts_in_fp32_whatever_its_weights_are_kept_in(policies: Policies) -> None:
    model, _ = policies("slowfast")
    slowfast = model.model.slowfast
    frames = torch.rand(1, 6, 3, 56, 56)
    expected = slowfast(frames)
    slowfast.unfreeze()
    for weight in slowfast.parameters():
        weight.data = weight.data.bfloat16()
    found = slowfast(frames)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02)
    found.sum().backward()
    assert all(weight.grad is not None for weight in slowfast.parameters())


@pytest.mark.parametrize(
    ("tasks", "kind", "kept"),
    [
        (None, None, {"score", "picture", "named", "asked", "chain", "pair", "both"}),
        (["question"], None, {"asked", "both"}),
        (["score", "recognition"], None, {"score", "picture", "named"}),
        (None, "image", {"picture", "asked"}),
        (None, "video", {"score", "named", "chain", "pair"}),  # "both" shows a picture too
        (["score"], "video", {"score"}),
    ],
)
def test_some_tasks_or_media_alone(
    media: Path, tasks: list[str] | None, kind: str | None, kept: set[str]
) -> None:
    rows = load_labels(media / "samples.jsonl", video_dir=media, pairs=True)
    assert set(chosen(rows, tasks=tasks, media=kind)["video_id"]) == kept


def test_no_sample_is_left(media: Path, tmp_path: Path) -> None:
    samples = media / "samples.jsonl"
    data = SupervisedDataConfig(
        train_labels=str(samples), train_videos=str(media), train_tasks=["naming"], train_media="image"
    )
    told = "no sample is naming of image; there are description of video, pair of video, question of image, "
    with pytest.raises(ValueError, match=re.escape(f"{samples}: {told}")):
        load_mixture(data, max_missing=0, seed=0)
    labels = tmp_path / "labels.csv"
    labels.write_text("video,mos\na.mp4,3\n")
    rows = load_labels(labels, video_dir=media)
    assert len(chosen(rows, tasks=["score"], media="video")) == 1  # a row of labels asks for a score
    with pytest.raises(ValueError, match="no sample is question of any media; there are score of video"):
        chosen(rows, tasks=["question"])


@pytest.mark.parametrize("in_sequence", [False, True])
def test_files_come_in_their_proportions(in_sequence: bool, tmp_path: Path) -> None:
    parts = [
        Dataset.from_dict({"id": [f"{name}{i}" for i in range(number)], name: list(range(number))})
        for name, number in (("a", 10), ("b", 4))
    ]
    rows = mix(parts, [0.5, 2.25], seed=1, in_sequence=in_sequence)
    again = mix(parts, [0.5, 2.25], seed=1, in_sequence=in_sequence)
    assert rows["id"][:] == again["id"][:]
    names = rows["id"][:]
    counts = Counter(names)
    drawn = [name for name in counts if name.startswith("a")]
    assert (len(drawn), {counts[name] for name in drawn}) == (5, {1})
    assert sorted(counts[f"b{i}"] for i in range(4)) == [2, 2, 2, 3]
    assert [name[0] for name in names] == ["a"] * 5 + ["b"] * 9  # a sampler shuffles them, or takes them so
    assert rows["a"][5:] == [None] * 9
    other = mix(parts, [0.5, 2.25], seed=2, in_sequence=in_sequence)
    assert other["id"][:] != names
    fewer = mix(parts, [1, 1], seed=1, most=6)
    assert len(set(fewer["id"])) == 6


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            ["a.jsonl", {"labels": "b.jsonl", "wieght": 2}],
            "there is no 'wieght' of a source; did you mean weight",
        ),
        ([{"labels": "b.jsonl", "weight": 0}], "the weight 0: expected a number above 0"),
        ([{"labels": "b.jsonl", "weight": math.inf}], "the weight inf: expected"),
        ([{"videos": "v/"}], "expected labels, and videos here or as train_videos"),
    ],
    ids=str,
)
def test_sources_that_cannot_be(told: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        sources_of(told, "videos/")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["vision_towr"], "'vision_towr', expected some of vision_tower, vision_projector, slowfast,"),
        (["slowfast=fast"], "the learning rate of slowfast is 'fast', expected a number"),
        ([{"slowfast": -1}], "the learning rate of slowfast is -1"),
        ([{"slowfast": True}], "the learning rate of slowfast is True"),
    ],
    ids=str,
)
def test_parts_that_cannot_be(parts: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        rates_of(parts)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--config"],
        ["--config", "laptop"],
        ["--config=laptop"],
        ["--config", "laptop", "vital_pretraining"],
        ["--config", str(ROOT / "recipes/stages/laptop.yaml")],
    ],
    ids=" ".join,
)
def test_a_stage_is_named(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"say which stage: .* vqa2_mixed; laptop comes after it"):
        read_settings("tune", settings_file("tune"), ["--seed", "1", *words])


def test_what_is_wrong_with_a_stage_is_told_before_torch(media: Path, tmp_path: Path) -> None:
    own = tmp_path / "stage.yaml"
    own.write_text(
        f"train_labels: [{{labels: none.jsonl, videos: {media}}}, {media}/samples.jsonl]\n"
        "parts: [vision_tower]\nuse_peft: true\nuse_cpu: true\nbf16: false\nfocal_beta: 1\n"
    )
    told = merge("tune", own, ["--focal_alpha", "2"])
    problems = "\n".join([*wrong_stage(told), *without_effect(told)])
    assert "parts are trained whole, and use_peft trains an adapter; leave one of them out" in problems
    assert "samples.jsonl" in problems  # which names no folder
    assert "--focal_alpha: has no effect without --text_loss focal" in problems
    told = merge("tune", own, ["--train_videos", str(media)])
    assert "none.jsonl is not a file" in "\n".join(wrong_stage(told))
