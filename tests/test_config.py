"""The settings: the paper's values, what the parser makes of them, what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trl import ModelConfig

from vqathinker.launch.checks import CHOICES
from vqathinker.model.attention import MASKS
from vqathinker.samples import Media, Sample, write_samples
from vqathinker.training import TrainingConfig
from vqathinker.training.missing import check_precision
from vqathinker.training.setup import DataConfig, load_data, lora
from vqathinker.training.validation import LOSS, find_metric

CPU = {"output_dir": "out", "use_cpu": True, "bf16": False}


def test_defaults_are_those_of_the_paper() -> None:
    args = TrainingConfig(**CPU)
    found = (args.num_generations, args.beta, args.epsilon, args.learning_rate, args.num_train_epochs)
    assert found == (4, 0.04, 0.2, 1e-6, 3.0)
    assert (args.temperature, args.top_p, args.top_k, args.max_completion_length) == (0.9, 1.0, 50, 2048)
    assert (args.loss_type, args.use_bias_correction_kl) == ("grpo", False)
    assert args.rewards == ["format", "regression", "ranking", "temporal"]
    assert args.ddp_broadcast_buffers is False
    assert args.num_videos_per_generation == 8 * 2 // 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"per_device_train_batch_size": 3},
            r"generation_batch_size \(6\) must be divisible by num_generations",
        ),
        ({"max_unreadable": 5}, "max_unreadable=5: expected a share between 0 and 1"),
        ({"decode_workers": 0}, "decode_workers=0"),
        ({"temperature": 0}, "temperature=0: expected above 0"),
        ({"rehearsal_seconds": -1}, "rehearsal_seconds=-1: expected 0"),
        (
            {"steps_per_generation": 6, "save_steps": 500},
            "save_steps=500: 3 steps share the responses .* e.g. save_steps=501",
        ),
        ({"num_iterations": 4, "save_steps": 6}, "save_steps=6: 4 steps share .* e.g. save_steps=8"),
        ({"perturbations": ["none", "reverse"]}, "'none' goes with no other"),
        ({"eval_num_videos": -1}, "eval_num_videos=-1"),
        ({"min_p": 0.1}, "min_p=0.1 has no effect"),
        ({"repetition_penalty": 1.2}, "repetition_penalty=1.2 has no effect"),
        ({"generation_kwargs": {"num_beams": 2}}, "generation_kwargs="),
        ({"packed_attention": "sparse"}, "packed_attention='sparse': expected one of segments, dense, flex"),
        ({"vllm_mode": "remote"}, "vllm_mode='remote': expected one of colocate, server"),
        ({"vllm_enable_sleep_mode": True}, "vllm_enable_sleep_mode needs use_vllm and vllm_mode: colocate"),
        ({"vllm_enforce_eager": False}, "vllm_enforce_eager needs use_vllm and vllm_mode: colocate"),
        ({"cache_implementation": "static"}, "cache_implementation='static'"),
        ({"use_transformers_continuous_batching": True}, "use_transformers_continuous_batching=True"),
        (
            {"gradient_accumulation_steps": 2, "steps_per_generation": 3, "save_strategy": "no"},
            "gradient_accumulation_steps=2 and .* = 3: one must be a multiple of the other",
        ),
        ({"metric_for_best_model": "loss"}, "metric_for_best_model='loss': expected one of srcc, plcc, rmse"),
        ({"num_generations": 1}, "GRPO requires at least 2 generations"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**CPU, **options)


@pytest.mark.parametrize(
    ("options", "metric", "is_more_better"),
    [
        ({"load_best_model_at_end": True}, "srcc", True),
        ({"save_strategy": "best"}, "srcc", True),
        ({"metric_for_best_model": "eval_rmse"}, "rmse", False),
        ({"metric_for_best_model": "rmse", "greater_is_better": True}, "rmse", True),
        ({}, None, None),
    ],
)
def test_the_best_checkpoint_is_best_by_what_validation_tells(
    options: dict[str, Any], metric: str | None, is_more_better: bool | None
) -> None:
    validates = {"eval_strategy": "steps", "eval_steps": 10, "save_steps": 10}
    args = TrainingConfig(**CPU, **validates, **options)
    assert (args.metric_for_best_model, args.greater_is_better) == (metric, is_more_better)


def test_a_group_is_not_split_between_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingConfig, "world_size", 2)
    with pytest.raises(
        ValueError, match=r"steps_per_generation = 2 must be a multiple of num_generations = 4"
    ):
        TrainingConfig(**CPU, per_device_train_batch_size=2, gradient_accumulation_steps=1)


def test_loader_processes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dataloader_num_workers=2 has no effect here, .* leave it out"):
        TrainingConfig(**CPU, dataloader_num_workers=2)


def test_splits_of_a_label_file_are_respected(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("name,mos,is_test\na,50,False\nb,60,True\nc,70,False\n")
    data = DataConfig(train_labels=str(labels), train_videos=str(tmp_path), eval_labels=str(labels))
    train = load_data(data, "train", max_missing=1)
    assert train is not None
    assert [row["mos"] for row in train] == [50, 70]
    for split in ("", "test"):
        data.eval_split = split
        held_out = load_data(data, "eval", max_missing=1)
        assert held_out is not None
        assert [row["mos"] for row in held_out] == [60]
    labels.write_text("video,mos\na.mp4,50\n")
    plain = load_data(data, "train", max_missing=1)
    assert plain is not None
    assert len(plain) == 1
    assert load_data(DataConfig(), "eval", max_missing=0) is None


def test_validation_has_its_own_range_and_a_column_names_the_sets(tmp_path: Path) -> None:
    own, mixed = tmp_path / "own.csv", tmp_path / "mixed.csv"
    own.write_text("video,mos\na.mp4,4\n")
    mixed.write_text("video,mos,dataset\na.mp4,50,one\nb.mp4,50,other\n")
    data = DataConfig(train_labels=str(mixed), train_videos=str(tmp_path), eval_labels=str(own))
    data.eval_mos_low, data.eval_mos_high = 1, 5
    train, validation = (load_data(data, split, max_missing=1) for split in ("train", "eval"))
    assert train is not None
    assert validation is not None
    assert list(train["dataset"]) == ["one", "other"]
    assert list(validation["target"]) == [4]
    data.dataset_name = "all"
    with pytest.raises(ValueError, match="has a column dataset, which dataset_name='all' contradicts"):
        load_data(data, "train", max_missing=1)
    renamed = load_data(data, "eval", max_missing=1)
    assert renamed is not None
    assert list(renamed["dataset"]) == ["all"]


def test_validation_labels_may_tell_their_range(tmp_path: Path) -> None:
    train, validation = tmp_path / "train.csv", tmp_path / "validation.csv"
    train.write_text("video,mos\na.mp4,5\n")
    validation.write_text("video,mos,mos_low,mos_high\nb.mp4,100,0,100\n")
    data = DataConfig(train_labels=str(train), train_videos=str(tmp_path), eval_labels=str(validation))
    data.mos_low, data.mos_high = 1, 5
    for file, target in ((validation, 5), (train, 5)):
        data.eval_labels = str(file)
        rows = load_data(data, "eval", max_missing=1)
        assert rows is not None
        assert list(rows["target"]) == [target]
    data.eval_mos_low = 1
    with pytest.raises(ValueError, match="eval_mos_low and eval_mos_high need one another"):
        load_data(data, "eval", max_missing=1)


def test_a_video_of_many_questions_is_missing_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = [
        Sample(f"{i}", "set", (Media("a.mp4"),), "question", f"What, {i}?", answer="A") for i in range(9)
    ]
    asked.append(Sample("9", "set", (Media("b.mp4"),), "question", "What?", answer="A"))
    write_samples(tmp_path / "set.jsonl", asked)
    (tmp_path / "b.mp4").touch()
    data = DataConfig(train_labels=str(tmp_path / "set.jsonl"), train_videos=str(tmp_path))
    assert load_data(data, "train", max_missing=0.5) is not None
    assert "1 of 2 videos do not exist" in caplog.text


def test_columns_are_named_for_each_label_file(tmp_path: Path) -> None:
    own, other = tmp_path / "own.csv", tmp_path / "other.csv"
    own.write_text("a.mp4,40,5,9\n")
    other.write_text("video,rating,score\nb.mp4,50,60\n")
    data = DataConfig(train_labels=str(own), train_videos=str(tmp_path), eval_labels=str(other))
    with pytest.raises(ValueError, match="could be the MOS; say which is: --mos-column"):
        load_data(data, "train", max_missing=1)
    data.mos_column, data.eval_mos_column = "2", "score"
    train, validation = (load_data(data, split, max_missing=1) for split in ("train", "eval"))
    assert train is not None
    assert validation is not None
    assert (train["mos"][0], validation["mos"][0]) == (40, 60)


def test_missing_videos_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("video,mos\n" + "".join(f"{i}.mp4,50\n" for i in range(8)))
    data = DataConfig(train_labels=str(labels), train_videos=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"8 of 8 videos do not exist: \S*0\.mp4, \S*1\.mp4, .*, \.\.\.; more than"
    ):
        load_data(data, "train", max_missing=0.5)
    data.eval_labels = str(labels)
    with pytest.raises(ValueError, match=r"Is --eval_videos right\?"):  # though it is not given
        load_data(data, "eval", max_missing=0.5)
    for i in range(7):
        (tmp_path / f"{i}.mp4").touch()
    load_data(data, "train", max_missing=0.2)
    assert "1 of 8 videos do not exist" in caplog.text
    assert "7.mp4; they will be skipped" in caplog.text


def test_lora_takes_the_language_model_alone() -> None:
    policy: Any = nn.Module()
    policy.model = nn.Module()
    assert lora(ModelConfig(), policy) is None
    config: Any = lora(ModelConfig(use_peft=True, lora_r=2), policy)
    assert config.modules_to_save is None
    assert re.fullmatch(config.target_modules, "model.language_model.layers.0.self_attn.q_proj")
    assert not re.fullmatch(config.target_modules, "model.vision_tower.encoder.layer.0.attention.q_proj")
    named: Any = lora(ModelConfig(use_peft=True, lora_target_modules=["q_proj", "v_proj"]), policy)
    assert re.fullmatch(named.exclude_modules, "model.vision_tower.encoder.layer.0.attention.q_proj")
    vision: Any = lora(ModelConfig(use_peft=True, lora_target_modules=[r".*vision_tower.*q_proj"]), policy)
    assert vision.exclude_modules is None
    policy.model.motion_projector = nn.Linear(1, 1)
    motion: Any = lora(ModelConfig(use_peft=True), policy)
    assert motion.modules_to_save == ["motion_projector"]


def test_rounding_is_told(caplog: pytest.LogCaptureFixture) -> None:
    check_precision(nn.Linear(1, 1), has_master_weights=False)
    check_precision(nn.Linear(1, 1).to(torch.bfloat16), has_master_weights=True)
    assert caplog.text == ""
    check_precision(nn.Linear(1, 1).to(torch.bfloat16), has_master_weights=False)
    assert "trained in torch.bfloat16 without 32-bit master weights" in caplog.text


def test_a_label_file_may_tell_its_range(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("video,mos,mos_low,mos_high\na.mp4,4,1,5\nb.mp4,50,0,100\n")
    data = DataConfig(train_labels=str(labels), train_videos=str(tmp_path), scale="affine")
    rows = load_data(data, "train", max_missing=1)
    assert rows is not None
    assert rows["target"][:] == [4, 3]
    data.mos_low = 1
    with pytest.raises(ValueError, match="mos_low and mos_high need one another"):
        load_data(data, "train", max_missing=1)


def test_a_home_folder_is_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert TrainingConfig(**CPU, motion_cache="~/kept").motion_cache == str(tmp_path / "kept")


def test_supervised_training_can_go_by_its_loss_too() -> None:
    assert (find_metric("eval_loss", LOSS), find_metric("srcc", LOSS)) == ("loss", "srcc")
    with pytest.raises(ValueError, match=r"metric_for_best_model='accuracy': expected one of srcc, .*, loss"):
        find_metric("eval_accuracy", LOSS)


def test_every_way_to_pack_can_be_chosen() -> None:
    assert set(CHOICES["grpo"]["packed_attention"]) == set(MASKS)
