"""Training on real files with a real, tiny model; a scripted engine where a test needs known responses."""

from __future__ import annotations

import json
import logging
import math
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import rounds, run_in_two_processes
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import ModelConfig
from trl.trainer.utils import use_adapter

import rewards
from perturbations import PERTURBATIONS
from vqathinker import answers, plugins, prompts
from vqathinker.checkpoints.adapters import merged_weights
from vqathinker.checkpoints.assemble import load_adapted, load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.data.dataset import load_labels
from vqathinker.media.clips import read_clip
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.video import Clip, VideoError
from vqathinker.model import VQAThinkerProcessor
from vqathinker.model.modeling import VQAThinkerModel
from vqathinker.rollout import Response, RolloutRequest, Sampling
from vqathinker.training import TrainingConfig, VQAThinkerTrainer
from vqathinker.training.grpo import trainer
from vqathinker.training.grpo.generation import AnsweredBatch, ReadBatch
from vqathinker.training.grpo.reference import HostedModel
from vqathinker.training.setup import lora
from vqathinker.types import FloatArray, FrameSetting, RolloutBatch

RULES = {name: rewards.load(name) for name in ("format", "regression", "ranking", "temporal")}
NAMES = ("prompt", "video_id", "dataset", "path")
MODES = {name: PERTURBATIONS[name]() for name in ("global_shuffle", "reverse", "random_drop")}
SETTINGS = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "max_steps": 1,
    "num_generations": 2,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_completion_length": 12,
    "learning_rate": 1e-3,
    "decode_workers": 1,
}


class ScriptedEngine:
    """Answers with a score that depends on the request's key and the response's number only."""

    def __init__(self, model: object, processor: VQAThinkerProcessor) -> None:
        self.tokenizer = processor.tokenizer

    def generate(
        self, requests: Sequence[RolloutRequest], num_responses: int, sampling: Sampling
    ) -> list[list[Response]]:
        keys = [request.cache_key for request in requests]
        named = [
            key if key.startswith("[") else key.rpartition("-")[2] for key in keys
        ]  # without the process's
        return [[self._respond(key, k) for k in range(num_responses)] for key in named]

    def _respond(self, key: str, k: int) -> Response:
        score = 1 + sum(map(ord, key + "!" * k)) * 37 % 400 / 100
        name = "-".join(map(str, json.loads(key)[1:])) if key.startswith("[") else ""
        reasoning = name + "." * k
        ids = self.tokenizer(answers.render(reasoning, score) + self.tokenizer.eos_token)["input_ids"]
        return Response(ids, [-1.0] * len(ids))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "HFEngine", ScriptedEngine)


@pytest.fixture
def rows(labelled_videos: Path) -> Dataset:
    return load_labels(labelled_videos / "train.csv", video_dir=labelled_videos, mos_range=(1, 5))


@pytest.fixture
def validation(labelled_videos: Path) -> Dataset:
    return load_labels(labelled_videos / "val.csv", video_dir=labelled_videos, mos_range=(1, 5))


@pytest.fixture
def make(
    tiny_checkpoint: Path, rows: Dataset, tmp_path: Path, decoders: GuardedReader
) -> Iterator[Callable[..., VQAThinkerTrainer]]:
    """A trainer on the tiny checkpoint; keyword arguments are the trainer's, then the settings'."""

    def build(**options: Any) -> VQAThinkerTrainer:
        load = options.pop("load", load_policy)
        model, processor = load(options.pop("checkpoint", tiny_checkpoint), dtype=torch.float32)
        processor.num_frames = options.pop("num_frames", processor.num_frames)
        names = (
            "train_dataset", "eval_dataset", "rewards", "reward_weights", "perturbations",
            "peft_config", "decoders",
        )  # fmt: skip
        given = {name: options.pop(name) for name in names if name in options}
        args = TrainingConfig(**{"output_dir": str(tmp_path / "out"), **SETTINGS, **options})
        defaults = {"train_dataset": rows, "rewards": RULES, "perturbations": MODES, "decoders": decoders}
        return VQAThinkerTrainer(model, args, processor=processor, **{**defaults, **given})

    yield build
    logging.disable(logging.NOTSET)


def weights(run: VQAThinkerTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in run.model.state_dict().items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def entries(run: VQAThinkerTrainer) -> list[dict[str, Any]]:
    return [entry for entry in run.state.log_history if "reward" in entry]


def table(folder: Path, step: int = 1) -> pd.DataFrame:
    return pd.read_parquet(folder / "completions" / f"completions_{step:05d}.parquet")


def test_two_steps_of_an_internvl_3_5(
    make: Callable[..., VQAThinkerTrainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its language model is a Qwen3; packed and separate rows give the same weights."""
    monkeypatch.setattr(VQAThinkerProcessor, "suppressed_ids", [])
    build_tiny(tmp_path / "qwen3", text={"model_type": "qwen3", "head_dim": 32})
    ends = []
    for packed in (True, False):
        options = {"max_steps": 2, "packed": packed, "beta": 0.04, "optim": "sgd", "learning_rate": 0.1}
        run = make(checkpoint=tmp_path / "qwen3", rewards={**RULES, "mine": as_trl_function}, **options)
        before = weights(run)
        run.train()
        ends.append(weights(run))
        assert all(entry["sampling/logp_gap_max"] < 1e-4 for entry in entries(run))
    assert largest_difference(ends[0], before) > 1e-5
    assert largest_difference(*ends) < 1e-6


def test_the_whole_way(
    make: Callable[..., VQAThinkerTrainer], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Forbidden ids take a visible share of an untrained model's probability, which the engine leaves out.
    monkeypatch.setattr(VQAThinkerProcessor, "suppressed_ids", [])
    run = make(max_steps=2, rewards={**RULES, "mine": as_trl_function})
    before = weights(run)
    run.train()
    after = weights(run)
    moved = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"vision_tower", "multi_modal_projector", "motion_projector", "language_model", "weight"}
    assert caplog.text.count("starts at 0 by construction") == 1
    for entry in entries(run):
        assert entry["sampling/logp_gap_max"] < 1e-4
        assert {
            "scores/srcc",
            "scores/parse_failures",
            "seconds/rollout",
            "seconds/data_wait",
        } <= entry.keys()
        assert all(f"rewards/{name}/mean" in entry for name in RULES)
        assert math.isfinite(entry["loss"])
        assert math.isfinite(entry["grad_norm"])
    folder = Path(run.args.output_dir, "final")
    run.save_model(str(folder))
    model, processor = load_policy(folder)
    assert all(torch.equal(value, after[name]) for name, value in model.state_dict().items())
    assert processor.prompt == run.processor.prompt
    assert type(AutoModelForImageTextToText.from_pretrained(folder)) is type(model)
    assert type(AutoProcessor.from_pretrained(folder)) is type(processor)


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_the_layout_of_the_batch_changes_nothing(make: Callable[..., VQAThinkerTrainer]) -> None:
    """Packed, row by row, and micro-batches that split the groups: the same gradients."""
    options = {
        "max_steps": 3,
        "num_generations": 4,
        "learning_rate": 0.1,
        "optim": "sgd",
        "max_grad_norm": 0.0,
    }
    layouts = [
        {"packed": True},
        {"packed": False},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    ]
    found, losses = [], []
    for layout in layouts:
        run = make(**options, **layout)
        before = weights(run)
        run.train()
        found.append(weights(run))
        losses.append([entry["loss"] for entry in entries(run)])
        assert largest_difference(before, found[-1]) > 1e-3
        assert all(entry["reward"] > 0.5 for entry in entries(run))
    for other, loss in zip(found[1:], losses[1:], strict=True):
        assert largest_difference(found[0], other) < 1e-5
        assert loss == pytest.approx(losses[0], abs=1e-6)


@pytest.mark.usefixtures("scripted")
def test_the_table_of_responses_is_aligned(
    make: Callable[..., VQAThinkerTrainer], rows: Dataset, tmp_path: Path
) -> None:
    make(log_completions=True, num_generations=4).train()
    shown = table(tmp_path / "out")
    targets = {row["prompt"]: row["target"] for row in rows}
    assert len(shown) == 8
    assert shown["prompt"].nunique() == 2
    for line in shown.to_dict("records"):
        name = line["prompt"].partition("/")[2]
        assert line["target"] == pytest.approx(targets[line["prompt"]])
        assert line["score"] == answers.score(line["completion"])
        assert f"{name}-clean-0" in line["completion"]
        assert f"{name}-twin-0" in line["twin"]
        assert line["perturbation"] in MODES
        near = 0.8 * math.exp(-((line["score"] - line["target"]) ** 2) / 0.5)
        assert line["regression"] == pytest.approx(near, abs=1e-5)


def declared(batch: RolloutBatch) -> FloatArray:
    assert batch.perturbed is not None
    return np.equal(batch.scores, batch.perturbed.scores).astype(float)


declared.needs_perturbed = True  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("names", "modes", "has_twins"),
    [
        (("format", "ranking"), MODES, False),
        (("format", "ranking"), {}, False),
        (("temporal",), MODES, True),
        (("declared",), MODES, True),
    ],
)
def test_twins_are_generated_where_a_reward_asks_for_them(
    names: tuple[str, ...],
    modes: dict[str, Any],
    has_twins: bool,
    make: Callable[..., VQAThinkerTrainer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    generated: list[str] = []

    class Counting(ScriptedEngine):
        def generate(
            self, requests: Sequence[RolloutRequest], num_responses: int, sampling: Sampling
        ) -> list[list[Response]]:
            generated.extend(json.loads(request.cache_key)[2] for request in requests)
            return super().generate(requests, num_responses, sampling)

    monkeypatch.setattr(trainer, "HFEngine", Counting)
    known = {**RULES, "declared": declared}
    run = make(rewards={name: known[name] for name in names}, perturbations=modes, log_completions=True)
    run.train()
    assert Counter(generated) == ({"clean": 4, "twin": 4} if has_twins else {"clean": 4})
    assert ("twin" in table(tmp_path / "out")) == has_twins
    assert ("none are generated" in caplog.text) == bool(modes and not has_twins)


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize(("gate", "teaches"), [("group", False), ("response", True)])
def test_what_a_whole_group_earns_teaches_nothing(
    gate: str, teaches: bool, make: Callable[..., VQAThinkerTrainer]
) -> None:
    """Eq. 8 to the letter pays all responses of a video alike, which the advantage subtracts again."""
    temporal = rewards.load("temporal")
    temporal.gate = gate  # type: ignore[attr-defined]
    temporal.tau = 0.6  # type: ignore[attr-defined]  passed by some responses of a video
    paid = []

    def bonus(batch: RolloutBatch) -> FloatArray:
        paid.append(temporal(batch))
        return paid[-1]

    bonus.needs_perturbed = True  # type: ignore[attr-defined]
    rules = {"regression": RULES["regression"], "ranking": RULES["ranking"]}
    # of two, the advantages are ±1/√2 whatever they earn
    settings = {"num_generations": 4, "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0}
    ends = []
    for payment in (bonus, lambda batch: 0 * bonus(batch)):
        payment.needs_perturbed = True  # type: ignore[attr-defined]
        run = make(rewards=rules | {"temporal": payment}, **settings)
        run.train()
        ends.append(weights(run))
    assert any(values.any() for values in paid)
    assert (largest_difference(*ends) > 1e-5) == teaches


@pytest.mark.usefixtures("scripted")
def test_a_video_is_decoded_once(
    make: Callable[..., VQAThinkerTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def spy(decoders: GuardedReader, path: str, setting: FrameSetting) -> Clip | VideoError:
        read.append(path)
        return read_clip(decoders, path, setting)

    monkeypatch.setattr(trainer, "read_clip", spy)
    run = make(num_generations=2, max_steps=2)
    run.train()
    assert len(read) == len(set(read)) == 8
    for entry in entries(run):
        assert 0 <= entry["seconds/data_wait"] < entry["step_time"]


def test_a_file_that_changes_while_it_is_read(
    make: Callable[..., VQAThinkerTrainer], rows: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its motion features are not kept: nobody knows which of the two files they are of."""
    run = make(motion_cache=str(tmp_path / "kept"))
    path = shutil.copy(rows[0]["path"], tmp_path / "clip.mp4")
    assert run.motion_cache is not None
    _, place = run._read(path)
    assert place is not None
    assert place == run.motion_cache.place(path)

    def read(decoders: GuardedReader, path: str, setting: FrameSetting) -> Clip | VideoError:
        clip = read_clip(decoders, path, setting)
        shutil.copy(rows[1]["path"], path)
        return clip

    monkeypatch.setattr(trainer, "read_clip", read)
    assert run._read(path)[1] is None


@pytest.mark.usefixtures("scripted")
def test_the_next_videos_are_read_during_a_step(
    make: Callable[..., VQAThinkerTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(num_generations=2, max_steps=1)
    next_batch_is_read = threading.Event()
    read: list[str] = []
    generate = run.respond

    def spy(decoders: GuardedReader, path: str, setting: FrameSetting) -> Clip | VideoError:
        read.append(path)
        if len(read) == 8:
            next_batch_is_read.set()
        return read_clip(decoders, path, setting)

    def respond(batch: ReadBatch) -> AnsweredBatch:
        assert next_batch_is_read.wait(30)  # while the rollout of the first batch is under way
        return generate(batch)

    monkeypatch.setattr(trainer, "read_clip", spy)
    monkeypatch.setattr(run, "respond", respond)
    run.train()
    assert len(set(read)) == 8


@pytest.mark.slow
def test_a_resumed_run_ends_where_the_whole_run_ends(
    make: Callable[..., VQAThinkerTrainer], tmp_path: Path
) -> None:
    options = {
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
        "log_completions": True,
        "num_completions_to_print": 0,
    }
    whole = make(**options)
    whole.train()
    tables = [table(tmp_path / "out", step) for step in (3, 4)]
    again = make(**options)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    for step, expected in zip((3, 4), tables, strict=True):
        found = table(tmp_path / "out", step)
        assert found["perturbation"].tolist() == expected["perturbation"].tolist()
        assert found["completion"].tolist() == expected["completion"].tolist()
    assert largest_difference(weights(whole), weights(again)) < 1e-6
    load_policy(tmp_path / "out" / "checkpoint-4")


@pytest.mark.usefixtures("scripted")
def test_a_run_resumed_inside_a_generation_cycle_keeps_to_its_cycles(
    make: Callable[..., VQAThinkerTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps share a generation: after a resume at step 2 the others begin where they would have."""
    generated: list[tuple[int, tuple[str, ...]]] = []
    respond = VQAThinkerTrainer.respond

    def noted(run: VQAThinkerTrainer, batch: ReadBatch) -> AnsweredBatch:
        generated.append((run.state.global_step, tuple(sorted({row["video_id"] for row in batch.rows}))))
        return respond(run, batch)

    monkeypatch.setattr(VQAThinkerTrainer, "respond", noted)
    options = {"per_device_train_batch_size": 2, "steps_per_generation": 4, "max_steps": 12}
    whole = make(**options, save_strategy="steps", save_steps=4)
    whole.args.save_steps = 2  # as `save_strategy: best` may, and as other programs' checkpoints are
    whole.train()
    expected = list(generated)
    assert [step for step, _ in expected] == [0, 4, 8]
    for start in (4, 6):
        generated.clear()
        again = make(**options)
        again.train(resume_from_checkpoint=str(Path(whole.args.output_dir, f"checkpoint-{start}")))
        assert generated[0] == (start, expected[1][1])
        assert generated[1:] == expected[2:]
        if start == 4:
            assert largest_difference(weights(whole), weights(again)) < 1e-6


@pytest.mark.usefixtures("scripted")
def test_a_resumed_run_counts_unreadable_videos_on(
    make: Callable[..., VQAThinkerTrainer], rows: Dataset, broken_videos: dict[str, Path], tmp_path: Path
) -> None:
    probe = make()
    order = list(dict.fromkeys(probe.train_dataset[i]["video_id"] for i in probe._get_train_sampler()))
    bad = {order[0]: broken_videos["cut"], order[4]: broken_videos["text"]}  # in two batches
    paths = [str(bad.get(row["video_id"], row["path"])) for row in rows]
    broken = rows.remove_columns("path").add_column("path", paths)
    options = {"train_dataset": broken, "save_strategy": "steps", "save_steps": 1, "max_unreadable": 0.2}
    first = make(**options)
    first.train()
    assert first.unreadable.paths == {str(broken_videos["cut"])}
    again = make(**options, max_steps=2)
    with pytest.raises(RuntimeError, match="2 of 8 videos cannot be read"):
        again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))


@pytest.mark.usefixtures("scripted")
def test_unreadable_videos_teach_nothing(
    make: Callable[..., VQAThinkerTrainer], rows: Dataset, broken_videos: dict[str, Path], tmp_path: Path
) -> None:
    paths = [str(broken_videos["cut"]), str(broken_videos["text"]), *rows["path"][2:]]
    broken = rows.remove_columns("path").add_column("path", paths)
    run = make(
        train_dataset=broken, max_unreadable=0.3, per_device_train_batch_size=16, max_steps=2, beta=0.5
    )
    run.train()
    batch = run._buffered_inputs[0]
    skipped = torch.tensor([inputs.skipped for inputs in batch["videos"]])
    assert skipped.sum() == 4
    assert not batch["completion_mask"][skipped].any()
    assert not batch["advantages"][skipped].any()
    assert batch["advantages"][~skipped].any()
    for entry in entries(run):
        assert entry["unreadable_videos"] == 2
        assert all(math.isfinite(value) for value in entry.values() if isinstance(value, float))
    lines = (tmp_path / "out" / "unreadable_videos.jsonl").read_text().splitlines()
    assert {json.loads(line)["path"] for line in lines} == set(paths[:2])
    limited = make(train_dataset=broken, max_unreadable=0.2, per_device_train_batch_size=16)
    with pytest.raises(RuntimeError, match=r"2 of 8 videos cannot be read, more than max_unreadable"):
        limited.train()


@pytest.mark.usefixtures("scripted")
def test_a_micro_batch_without_a_readable_video(
    make: Callable[..., VQAThinkerTrainer], rows: Dataset, broken_videos: dict[str, Path]
) -> None:
    paths = [str(broken_videos["cut"]), *rows["path"][1:]]
    broken = rows.remove_columns("path").add_column("path", paths)
    run = make(
        train_dataset=broken,
        max_unreadable=0.5,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
    )
    run.train()
    assert math.isfinite(entries(run)[0]["grad_norm"])
    assert math.isfinite(entries(run)[0]["loss"])


def test_validation(make: Callable[..., VQAThinkerTrainer], validation: Dataset, tmp_path: Path) -> None:
    run = make(
        eval_dataset=validation,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="best",
        metric_for_best_model="srcc",
        max_steps=2,
        max_completion_length=4,
    )
    run.train()
    evaluations = [entry for entry in run.state.log_history if "eval_srcc" in entry]
    assert [entry["step"] for entry in evaluations] == [1, 2]
    assert evaluations[0]["eval_parse_failures"] == 4
    assert math.isnan(evaluations[0]["eval_srcc"])
    assert [entry["step"] for entry in entries(run)] == [1, 2]
    assert not any(key.startswith("eval_") for entry in entries(run) for key in entry)
    assert run.model.training


def test_validation_scores(
    make: Callable[..., VQAThinkerTrainer], validation: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqathinker.rollout.answer.HFEngine", ScriptedEngine)
    run = make(eval_dataset=validation)
    metrics = run.evaluate()
    assert metrics == run.evaluate()
    assert -1 <= metrics["eval_srcc"] <= 1
    assert metrics["eval_parse_failures"] == metrics["eval_unreadable"] == 0
    run.args.eval_num_videos = 2
    assert set(run.evaluate()) == set(metrics)
    with pytest.raises(ValueError, match="no validation data"):
        make().evaluate()


def test_validation_clips_answers_off_the_scale_and_counts_them(
    make: Callable[..., VQAThinkerTrainer], validation: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = iter(["127.00", "3.10", "-4.00", "no number"])

    class Wild(ScriptedEngine):
        def _respond(self, key: str, k: int) -> Response:
            ids = self.tokenizer(f"<think>r</think><answer>{next(written)}</answer>")["input_ids"]
            return Response(ids, [-1.0] * len(ids))

    monkeypatch.setattr("vqathinker.rollout.answer.HFEngine", Wild)
    metrics = make(eval_dataset=validation).evaluate()
    errors = [shown - target for shown, target in zip((5, 3.1, 1), validation["target"], strict=False)]
    assert metrics["eval_rmse"] == pytest.approx(math.sqrt(sum(error**2 for error in errors) / 3))
    assert (metrics["eval_clipped"], metrics["eval_parse_failures"]) == (2, 1)


def test_validation_counts_distinct_scores(
    make: Callable[..., VQAThinkerTrainer], validation: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = iter(["3.10", "3.1", "no number", "7.00"])  # of which the first two are one

    class Repeating(ScriptedEngine):
        def _respond(self, key: str, k: int) -> Response:
            ids = self.tokenizer(f"<think>r</think><answer>{next(written)}</answer>")["input_ids"]
            return Response(ids, [-1.0] * len(ids))

    monkeypatch.setattr("vqathinker.rollout.answer.HFEngine", Repeating)
    assert make(eval_dataset=validation).evaluate()["eval_distinct"] == 2


@pytest.mark.parametrize("targets", [None, ["q_proj", "v_proj"]])
def test_lora(
    make: Callable[..., VQAThinkerTrainer], tiny_checkpoint: Path, tmp_path: Path, targets: list[str] | None
) -> None:
    config = ModelConfig(use_peft=True, lora_r=4, lora_target_modules=targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "HFEngine", ScriptedEngine)
        run = make(peft_config=lora(config, load_policy(tiny_checkpoint)[0]), max_steps=2, learning_rate=0.01)
        run.train()
    trained = [name for name, weight in run.model.named_parameters() if weight.requires_grad]
    assert trained
    assert all("language_model" in name or "motion_projector" in name for name in trained)
    first, second = entries(run)
    assert first["kl"] == pytest.approx(0, abs=1e-6)  # the reference is the base model, adapter off
    assert second["kl"] > 1e-6
    run.save_model(str(tmp_path / "final"))
    assert (tmp_path / "final" / "adapter_config.json").is_file()
    base, _ = load_policy(tiny_checkpoint)
    merged, _ = load_policy(tmp_path / "final")
    changed = {
        name for name, value in merged.state_dict().items() if not torch.equal(value, base.state_dict()[name])
    }
    assert changed
    assert all("language_model" in name or "motion_projector" in name for name in changed)
    assert any("motion_projector" in name for name in changed)


@pytest.fixture
def first_stage(make: Callable[..., VQAThinkerTrainer], tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """An adapter from two steps."""
    config = ModelConfig(use_peft=True, lora_r=4, lora_dropout=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "HFEngine", ScriptedEngine)
        run = make(peft_config=lora(config, load_policy(tiny_checkpoint)[0]), max_steps=2, learning_rate=0.01)
        run.train()
    run.save_model(str(tmp_path / "first"))
    return tmp_path / "first"


def test_an_adapter_is_trained_on(
    make: Callable[..., VQAThinkerTrainer],
    scripted: None,
    first_stage: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
) -> None:
    """The reference is the policy as it was loaded; the result holds both stages; a resume goes on."""
    options = {"load": load_adapted, "checkpoint": first_stage, "learning_rate": 0.01, "beta": 0.04}
    run = make(**options, max_steps=3, save_strategy="steps", save_steps=2)
    start = {name: weight.clone() for name, weight in load_policy(first_stage)[0].named_parameters()}
    run.train()
    assert entries(run)[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert entries(run)[1]["kl"] > 1e-6
    with use_adapter(run.model, "ref"):
        assert_weights(dict(merged_weights(run.model)), start)
    run.save_model(str(tmp_path / "final"))
    assert not [path for path in tmp_path.rglob("ref") if path.is_dir()]
    settings = json.loads((tmp_path / "final" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tiny_checkpoint)
    end = dict(load_policy(tmp_path / "final")[0].named_parameters())
    assert_weights(dict(merged_weights(run.model)), end)
    moved = {name for name, weight in end.items() if not torch.equal(weight, start[name])}
    assert moved
    assert all("language_model" in name or "motion_projector" in name for name in moved)
    assert any("motion_projector" in name for name in moved)

    resumed = make(**options, max_steps=3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert_weights(dict(merged_weights(resumed.model)), end, atol=1e-5)


def assert_weights(found: dict[str, Tensor], wanted: dict[str, Tensor], atol: float = 1e-6) -> None:
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=atol, msg=name)


def test_everything_is_trained_from_an_adapter(
    make: Callable[..., VQAThinkerTrainer], scripted: None, first_stage: Path, tmp_path: Path
) -> None:
    """It is merged; the reference is the merged policy, the result a checkpoint of its own."""
    run = make(checkpoint=first_stage, max_steps=2, beta=0.04)
    start = load_policy(first_stage)[0].state_dict()
    assert_weights(run.ref_model.state_dict(), start)
    run.train()
    assert entries(run)[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert_weights(run.ref_model.state_dict(), start)
    run.save_model(str(tmp_path / "final"))
    assert not (tmp_path / "final" / "adapter_config.json").exists()
    end = load_policy(tmp_path / "final")[0].state_dict()
    moved = {name.split(".")[1] for name in end if not torch.equal(end[name], start[name])}
    assert moved == {"vision_tower", "multi_modal_projector", "motion_projector", "language_model", "weight"}


def as_trl_function(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    assert len(prompts) == len(completions) == len(columns["path"])
    return [float(len(text)) for text in completions]


def wrong_shape(batch: RolloutBatch) -> FloatArray:
    return batch.scores[0]


def declared_for(name: str) -> Callable[[RolloutBatch], FloatArray]:
    """A reward for one data set, as a recipe declares it."""
    item = {"name": "regression", "datasets": [name]}
    (plugin,) = plugins.build(item, rewards.REWARDS, group="vqathinker.rewards", declares=("datasets",))
    return plugin.function


def not_a_number(batch: RolloutBatch) -> FloatArray:
    return 0 * batch.scores


@pytest.mark.usefixtures("scripted")
def test_a_trl_function_is_a_reward(make: Callable[..., VQAThinkerTrainer]) -> None:
    run = make(rewards={"length": as_trl_function})
    run.train()
    assert entries(run)[0]["rewards/length/mean"] > 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewards": {}}, "no reward is configured"),
        ({"rewards": {"mine": wrong_shape}}, r"reward 'mine' returned shape \(2,\) instead of \(4, 2\)"),
        ({"rewards": {"mine": not_a_number}}, "reward 'mine' returned . values that are not finite"),
        (
            {"rewards": {"mine": declared_for("trian")}},
            "reward 'mine' is for the data set 'trian'; the training data are of train; did you mean train",
        ),
        ({"perturbations": {}}, "reward 'temporal' compares with perturbed copies; configure perturbations"),
        (
            {"per_device_train_batch_size": 2},
            "reward 'ranking' compares videos and the global batch holds only 1",
        ),
        ({"per_device_train_batch_size": 18}, "8 training videos do not fill one generation batch of 9"),
        (
            {"train_dataset": Dataset.from_dict({"prompt": ["a"]})},
            "lacks the columns video_id, dataset, path",
        ),
        (
            {
                "train_dataset": Dataset.from_dict(
                    {key: list("aab") for key in NAMES} | {"target": [2.0, 3.0, 4.0]}
                )
            },
            "1 rows of the training data have the data set and the id of another row",
        ),
        (
            {
                "train_dataset": Dataset.from_dict(
                    {key: list("abc") for key in (*NAMES, "image")} | {"target": [2.0, 3.0, 4.0]}
                )
            },
            "the column 'image' of the labels has a meaning of its own in TRL; rename it",
        ),
        (
            {
                "train_dataset": Dataset.from_dict(
                    {key: list("abc") for key in NAMES} | {"target": [0.2, 0.5, 3.0]}
                )
            },
            "2 of 3 training targets lie outside 1 to 5, .* mos_low and mos_high",
        ),
        ({"num_frames": 1}, "perturbations need at least 2 frames per video, the processor takes 1"),
        ({"per_device_train_batch_size": 7}, "must be divisible by num_generations"),
        ({"packed_attention": "flex"}, "FlexAttention has no backward pass on cpu; use 'segments'"),
        ({"packed_attention": "flex", "packed": False}, "FlexAttention has no backward pass on cpu"),
    ],
)
def test_what_cannot_work_is_told_at_once(
    options: dict[str, Any], message: str, make: Callable[..., VQAThinkerTrainer]
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("asks", "think", "message"),
    [
        (True, True, ""),
        (False, False, ""),
        (True, False, "think: false), and the checkpoint's prompt asks for <think>"),
        (False, True, "the prompt asks for an answer without <think>"),
    ],
)
def test_prompt_and_rewards_agree_on_reasoning(
    asks: bool,
    think: bool,
    message: str,
    make: Callable[..., VQAThinkerTrainer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loaded = load_policy

    def load(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        model, processor = loaded(*args, **kwargs)
        question = prompts.SCORE_QUESTION if asks else "Rate it between <answer> and </answer>."
        processor.prompt = {**processor.prompt, "question": question}
        return model, processor

    monkeypatch.setattr("test_trainer.load_policy", load)
    make(rewards={"format": rewards.load("format", think=think)})
    told = [record.message for record in caplog.records if "<think>" in record.message]
    assert len(told) == bool(message)
    assert message in "".join(told)


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import test_trainer
test_trainer.trainer.HFEngine = test_trainer.ScriptedEngine
test_trainer.train_on_eight_videos({checkpoint!r}, {videos!r}, {out!r}, 8, {options!r})
"""


def train_on_eight_videos(
    checkpoint: str, videos: str, out: str, batch_size: int, options: dict[str, Any]
) -> None:
    """Steps on all videos at once, then validation; writes weights, log and metrics."""
    train, validation = (
        load_labels(f"{videos}/{name}.csv", video_dir=videos, mos_range=(1, 5)) for name in ("train", "val")
    )
    model, processor = load_policy(checkpoint, dtype=torch.float32)
    plain = {"per_device_train_batch_size": batch_size, "optim": "sgd", "max_grad_norm": 0.0}
    args = TrainingConfig(**{**SETTINGS, **plain, "output_dir": out, "log_completions": True, **options})
    run = VQAThinkerTrainer(
        model,
        args,
        processor=processor,
        rewards=RULES,
        perturbations=MODES,
        train_dataset=train,
        eval_dataset=validation,
    )
    run.train()
    metrics = run.evaluate()
    if run.accelerator.is_main_process:
        torch.save((weights(run), entries(run), metrics), f"{out}/result.pt")


def train_in_two_processes(checkpoint: str, videos: str, folder: Path, options: dict[str, Any]) -> None:
    """As `train_on_eight_videos`, four of the videos in each process."""
    tests = str(Path(__file__).parent)
    program = PROGRAM.format(
        tests=tests, out=str(folder), checkpoint=checkpoint, videos=videos, options=options
    )
    folder.mkdir()
    run_in_two_processes(program, folder)


def test_a_model_on_the_host_is_lent_for_its_pass() -> None:
    """The meta device stands for the GPU: what lies there is told by the tensors alone."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    before = {name: (value.data_ptr(), value.clone()) for name, value in model.state_dict().items()}
    hosted = HostedModel(model, "meta")
    with hosted.on_device():
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
        assert model(torch.ones(5, 2, device="meta")).device.type == "meta"
    with pytest.raises(RuntimeError, match="same reduction dim"), hosted.on_device():
        model(torch.ones(5, 7, device="meta"))
    for name, value in model.state_dict().items():
        assert value.data_ptr() == before[name][0]
        torch.testing.assert_close(value, before[name][1])


@pytest.mark.usefixtures("scripted")
def test_the_reference_may_lie_on_the_host(
    make: Callable[..., VQAThinkerTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    lend, lent = HostedModel.on_device, []
    monkeypatch.setattr(HostedModel, "on_device", lambda model: lent.append(model) or lend(model))
    ends = []
    for offloads in (False, True):
        run = make(offload_reference=offloads, beta=0.5, max_steps=3, learning_rate=0.05)
        run.train()
        assert any(entry["kl"] > 0 for entry in entries(run))
        ends.append(weights(run))
    assert largest_difference(*ends) == 0
    assert lent == [run.hosted_reference] * 3  # once per generation
    with pytest.raises(ValueError, match="offload_reference: with beta 0 or adapters"):
        make(offload_reference=True, beta=0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_packed_and_plain_runs_end_with_the_same_weights(
    tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    """Many steps, packed and not, in one process and in two."""
    paths = (str(tiny_checkpoint), str(labelled_videos))
    ends = {}
    for packed, num_processes in ((False, 1), (False, 2), (True, 1), (True, 2)):
        options = {"packed": packed, "max_steps": rounds(8, 20), "learning_rate": 0.05}
        folder = tmp_path / f"{packed}-{num_processes}"
        options["log_completions"] = False
        if num_processes == 1:
            train_on_eight_videos(*paths, str(folder), 16, options)
        else:
            train_in_two_processes(*paths, folder, options)
        ends[folder.name] = torch.load(folder / "result.pt", weights_only=True)[0]
    start = load_policy(tiny_checkpoint, dtype=torch.float32)[0].state_dict()
    oracle = ends.pop("False-1")
    assert largest_difference(start, oracle) > 1e-2
    assert {name: largest_difference(end, oracle) < 1e-5 for name, end in ends.items()} == dict.fromkeys(
        ends, True
    )


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("adapter", [False, True], ids=["all weights", "lora"])
def test_every_way_of_packing_ends_with_the_same_weights(
    make: Callable[..., VQAThinkerTrainer], tiny_checkpoint: Path, *, adapter: bool
) -> None:
    """Row by row is the oracle; the micro-batch of 3 splits groups of 4."""
    ways: dict[str, dict[str, Any]] = {
        "rows": {"packed": False},
        "segments": {},
        "dense": {"packed_attention": "dense"},
        "checkpointing": {"gradient_checkpointing": True},
        "split": {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 8},
    }
    config = ModelConfig(use_peft=adapter, lora_r=4, lora_dropout=0.0)
    common = {"max_steps": 3, "optim": "sgd", "learning_rate": 0.5 if adapter else 0.05, "beta": 0.5}
    common |= {"num_generations": 4, "per_device_train_batch_size": 24, "max_grad_norm": 0.0}
    ends = {}
    for name, options in ways.items():
        peft = lora(config, load_policy(tiny_checkpoint)[0])
        run = make(peft_config=peft, **{**common, **options})
        before = weights(run)
        with pytest.MonkeyPatch.context() as patch:
            if name == "rows":  # and every row encodes its own video
                patch.setattr(VQAThinkerModel, "trains_vision", True)
            run.train()
        ends[name] = weights(run)
        assert entries(run)[-1]["kl"] > 1e-6
    oracle = ends.pop("rows")
    assert largest_difference(before, oracle) > 1e-3
    assert {name: largest_difference(end, oracle) < 1e-5 for name, end in ends.items()} == dict.fromkeys(
        ends, True
    )


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize(
    ("adapter", "targets", "expected"),
    [
        (False, None, {"rollout": 2, "reference": 2, "update": 4}),
        (True, None, {"rollout": 2}),
        (
            True,
            [r".*vision_tower.*q_proj"],
            {"rollout": 2, "reference": 2, "update": 4},
        ),
    ],
    ids=["all weights", "lora", "lora in the vision tower"],
)
def test_how_often_a_video_is_encoded(
    make: Callable[..., VQAThinkerTrainer],
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    adapter: bool,
    targets: list[str] | None,
    expected: dict[str, int],
) -> None:
    """Two videos, whose groups of 4 the update's micro-batches of 2 split."""
    model = load_policy(tiny_checkpoint)[0]
    peft = lora(ModelConfig(use_peft=adapter, lora_target_modules=targets), model)
    run = make(
        peft_config=peft, beta=0.5, num_generations=4, per_device_train_batch_size=2, perturbations={},
        gradient_accumulation_steps=4, rewards={"format": RULES["format"]},
    )  # fmt: skip
    frames: Counter[str] = Counter()
    encode, respond = VQAThinkerModel.frame_features, VQAThinkerTrainer.respond

    def counted(model: VQAThinkerModel, pixels: torch.Tensor) -> torch.Tensor:
        found = encode(model, pixels)
        frames["update" if torch.is_grad_enabled() else "reference"] += len(pixels)
        return found

    def renamed(run: VQAThinkerTrainer, batch: ReadBatch) -> AnsweredBatch:
        responses = respond(run, batch)
        frames["rollout"] += frames.pop("reference")
        return responses

    monkeypatch.setattr(VQAThinkerModel, "frame_features", counted)
    monkeypatch.setattr(VQAThinkerTrainer, "respond", renamed)
    run.train()
    assert {name: number / run.processor.num_frames for name, number in frames.items()} == expected


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_two_processes_are_one_batch(tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path) -> None:
    """One process with 8 videos, two with 4 each: the same rewards, and the same weights after the step."""
    paths = (str(tiny_checkpoint), str(labelled_videos))
    train_on_eight_videos(*paths, str(tmp_path / "one"), 16, {})
    train_in_two_processes(*paths, tmp_path / "two", {})
    one, two = (table(tmp_path / name).sort_values(["prompt", "completion"]) for name in ("one", "two"))
    assert len(one) == 16
    for column in ("prompt", "completion", "target", "twin", "perturbation"):
        assert one[column].tolist() == two[column].tolist()
    for column in (*RULES, "advantage"):
        assert one[column].tolist() == pytest.approx(two[column].tolist(), abs=1e-5)
    (weights_one, _, metrics_one), (weights_two, logged, metrics_two) = (
        torch.load(tmp_path / name / "result.pt", weights_only=True) for name in ("one", "two")
    )
    assert largest_difference(weights_one, weights_two) < 1e-5
    assert math.isfinite(logged[0]["reward"])
    assert metrics_one == pytest.approx(metrics_two, nan_ok=True)


def test_a_weight_of_no_reward_is_refused(make: Callable[..., VQAThinkerTrainer]) -> None:
    with pytest.raises(ValueError, match="reward_weights names 'regresion', which is none of format"):
        make(reward_weights={"regresion": 2.0})


def test_rows_without_a_target_do_not_hide_a_wrong_range(
    make: Callable[..., VQAThinkerTrainer], rows: Dataset
) -> None:
    targets = [50.0, 60.0] + [math.nan] * (len(rows) - 2)
    mixed = rows.remove_columns("target").add_column("target", targets)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="2 of 2 training targets lie outside 1 to 5, between 50 and 60"):
        make(train_dataset=mixed)
