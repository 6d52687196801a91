"""What every recipe does once torch is there: claim its output folder, read its labels and its checkpoint.

The settings are read and checked before that, by `vqathinker.launch`. The composition stays in the recipes.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import PeftConfig, PeftModel
from transformers import Trainer
from transformers.utils.logging import disable_progress_bar
from trl.trainer.model_config import ModelConfig
from trl.trainer.utils import get_peft_config

from vqathinker.checkpoints.assemble import load_adapted, load_policy
from vqathinker.checkpoints.folders import checkpoint_folder, is_adapter
from vqathinker.data.dataset import LabelReading, read_labels
from vqathinker.data.mixture import chosen, mix
from vqathinker.data.overlap import find_overlap
from vqathinker.launch import Composed, Settings
from vqathinker.launch.lora import LANGUAGE_LAYERS, other_settings
from vqathinker.launch.resume import checkpoint_of, num_processes_of, record, set_aside
from vqathinker.launch.stages import sources_of
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.training.missing import check_files

logger = logging.getLogger(__name__)

VISION_LAYERS = r".*vision_tower.*"
T = TypeVar("T", bound=Trainer)


@dataclass
class DataConfig:
    """Which videos a run learns from, and where its result goes.

    Attributes:
        train_labels: label file in one of the supported formats.
        train_videos: directory that its names are relative to.
        train_split: rows to take where the label file marks splits; empty for all.
        eval_labels: label file for validation during training.
        eval_videos: its directory, that of the training videos if omitted.
        eval_split: as `train_split`, for validation; empty for all rows, of the training label file itself
            for those outside `train_split`.
        allow_overlap: whether validation may contain training videos.
        video_column: column of the label file that names the videos, or its number from 1; found if omitted.
        mos_column: column of the MOS, or its number from 1; found if omitted.
        eval_video_column: `video_column` of the validation labels, as for training if omitted.
        eval_mos_column: `mos_column` of the validation labels, as for training if omitted.
        dataset_name: name under which videos are compared with one another, for a label file without a column
            `dataset`; its stem if omitted.
        mos_low: lower end of the native scale; that of the label file's columns, or 0, if omitted.
        mos_high: upper end of the native scale; that of the columns, or 100, if omitted.
        eval_mos_low: that of the validation labels; that of their columns, or as for training, if omitted.
        eval_mos_high: likewise.
        scale: how labels reach the prompt's 1-5 scale.
        save_to: where the final checkpoint goes; `<output_dir>/final` if omitted.
        overwrite_output_dir: whether a new run may write into directories that hold something.
        allow_changes: whether a resumed run may learn something else than it began with: other rewards, data,
            group sizes and so on.
    """

    train_labels: str | None = None
    train_videos: str | None = None
    train_split: str = "train"
    eval_labels: str | None = None
    eval_videos: str | None = None
    eval_split: str = ""
    allow_overlap: bool = False
    video_column: str | None = None
    mos_column: str | None = None
    eval_video_column: str | None = None
    eval_mos_column: str | None = None
    dataset_name: str | None = None
    mos_low: float | None = None
    mos_high: float | None = None
    eval_mos_low: float | None = None
    eval_mos_high: float | None = None
    scale: Literal["divide", "clip", "affine"] = "divide"
    save_to: str | None = None
    overwrite_output_dir: bool = False
    allow_changes: bool = False


@dataclass
class SupervisedDataConfig(DataConfig):
    """As `DataConfig`, for the recipe whose training settings are TRL's alone.

    Attributes:
        train_labels: label file, file of samples, or a list of such; an item of a list is a name, or a
            mapping with `labels`, `videos` (`train_videos` if omitted) and `weight`, how often each of its
            rows comes.
        in_sequence: whether one file is learned after the other instead of all mixed.
        max_samples: rows that are drawn of all, 0 for all.
        train_tasks: samples of these tasks alone, such as question or description; of any if omitted.
        train_media: samples about pictures (image) or about videos (video) alone; about any if omitted.
        parts: what is trained: some of vision_tower, vision_projector, slowfast, motion_projector and
            language_model, with a learning rate of its own as in slowfast=1e-6; all but slowfast if omitted.
        max_unreadable: share of the videos that may be missing or unreadable before the run stops.
        think: false teaches the answer block alone, without reasoning.
        eval_num_videos: most validation videos scored at each evaluation, 0 for all.
        eval_max_completion_length: longest response at an evaluation, in tokens.
    """

    train_labels: list[str] | str | None = None  # type: ignore[assignment]  # one or several
    in_sequence: bool = False
    max_samples: int = 0
    train_tasks: list[str] | None = None
    train_media: Literal["image", "video"] | None = None
    parts: list[str] | None = None
    max_unreadable: float = 0.05
    think: bool = True
    eval_num_videos: int = 0
    eval_max_completion_length: int = 2048


class Start(TypedDict):
    """What both trainers start from, by the names of their arguments."""

    model: VQAThinkerForConditionalGeneration | PeftModel
    processor: VQAThinkerProcessor
    train_dataset: Dataset
    eval_dataset: Dataset | None
    peft_config: PeftConfig | None
    base: str | None


def load_start(settings: Settings, data: DataConfig, model: ModelConfig, *, max_missing: float) -> Start:
    """Labels and checkpoint of a run, the labels first: they are wrong more often.

    Args:
        settings: of the run.
        data: names the labels; training labels and videos are given.
        model: names the checkpoint, and how it is trained.
        max_missing: share of the videos of each set that may be missing.

    Raises:
        ValueError: as `load_sets` and `load_model`.
    """
    train, validation = load_sets(data, max_missing=max_missing, seed=settings["seed"])
    policy, processor = load_model(model, settings.given)
    return Start(
        model=policy,
        processor=processor,
        train_dataset=train,
        eval_dataset=validation,
        peft_config=lora(model, policy),
        base=model.model_name_or_path,
    )


def composed(settings: Settings, data: DataConfig, trainer: T) -> Composed[T]:
    """A trainer that could be made: the output folder is its run's from now on."""
    checkpoint = begin(settings)
    return Composed(trainer, checkpoint, data.save_to or str(Path(str(trainer.args.output_dir), "final")))


def begin(settings: Settings) -> str | None:
    """Write `settings.yaml` into the output folder, where checkpoints of an earlier run are set aside.

    All processes call it together.

    Returns:
        The checkpoint to resume from, None for a new run.

    Raises:
        ValueError: if the run that is resumed began in another number of processes.
    """
    checkpoint = checkpoint_of(settings)
    state = PartialState()
    before = num_processes_of(settings)
    if before not in (None, state.num_processes) and not settings["allow_changes"]:
        raise ValueError(
            f"the run that is resumed began in {before} processes, these are {state.num_processes}: its "
            "batches would be others, and so would the videos that are left of its epoch. Launch as many, or "
            "give --allow_changes true"
        )
    state.wait_for_everyone()  # nobody writes before everybody has looked
    if state.is_main_process:
        if checkpoint is None:
            for path in set_aside(settings):
                logger.warning("a checkpoint of an earlier run is kept as %s", path)
        record(settings, state.num_processes)
    state.wait_for_everyone()
    return None if checkpoint is None else str(checkpoint)


def load_sets(data: DataConfig, *, max_missing: float, seed: int = 0) -> tuple[Dataset, Dataset | None]:
    """Rows to train on and, where they are named, rows to validate with, which share no video.

    Args:
        data: names the files; training labels and videos are given.
        max_missing: share of the videos of each set that may be missing.
        seed: of what is drawn of them.

    Raises:
        ValueError: as `load_data`, or if the sets share videos and `allow_overlap` is not set.
    """
    if not sys.stderr.isatty():
        disable_progress_bar()  # a bar in a file is a line per update
    if isinstance(data, SupervisedDataConfig):
        train = load_mixture(data, max_missing=max_missing, seed=seed)
    else:
        found = load_data(data, "train", max_missing=max_missing)
        assert found is not None, "the settings have been checked"
        train = found
    validation = load_data(data, "eval", max_missing=max_missing)
    overlap = None if validation is None else find_overlap(validation, train)
    if overlap:
        if not data.allow_overlap:
            raise ValueError(
                f"{overlap.describe()}; a score on them says nothing about new videos. Give other "
                "--eval_labels or another --eval_split, or allow it: --allow_overlap true"
            )
        logger.warning("%s; validation overrates the model (allow_overlap)", overlap.describe())
    return train, validation


def load_mixture(data: SupervisedDataConfig, *, max_missing: float, seed: int) -> Dataset:
    """The rows of all files that are learned from.

    Args:
        data: names them.
        max_missing: share of the videos of each that may be missing.
        seed: of what is drawn.

    Raises:
        ValueError: as `load_data`, or if one has no sample of `train_tasks` and `train_media`.
    """
    sources = sources_of(data.train_labels, data.train_videos)
    parts = []
    for source in sources:
        one = replace(data, train_labels=source.labels, train_videos=source.videos)
        part = load_data(one, "train", max_missing=max_missing)
        assert part is not None, "a source has labels and videos"
        try:
            parts.append(chosen(part, tasks=data.train_tasks, media=data.train_media))
        except ValueError as error:
            raise ValueError(f"{source.labels}: {error}") from None
    weights = [source.weight for source in sources]
    if weights == [1] and not data.max_samples and not data.in_sequence:
        return parts[0]
    return mix(parts, weights, seed=seed, in_sequence=data.in_sequence, most=data.max_samples)


def load_data(data: DataConfig, split: str, *, max_missing: float) -> Dataset | None:
    """Rows of the "train" or "eval" labels; None where none are named.

    Args:
        data: names the files.
        split: "train" or "eval".
        max_missing: share of the videos that may be missing.

    Raises:
        ValueError: if the labels are at fault, `dataset_name` contradicts them, or more videos are missing.
    """
    labels = data.train_labels if split == "train" else data.eval_labels
    videos = data.train_videos if split == "train" else data.eval_videos or data.train_videos
    if labels is None or videos is None:
        return None
    assert isinstance(labels, str), "one of several is read at a time"
    table = read_labels(labels, videos, _reading(data, split, labels))
    table.matches.log()
    if data.dataset_name:
        if set(table.columns["dataset"]) != {Path(labels).stem}:
            raise ValueError(
                f"{labels} has a column dataset, which dataset_name={data.dataset_name!r} contradicts; leave "
                "one of them out"
            )
        table = table.named(data.dataset_name)
    rows = table.to_rows()
    check_files(rows, max_missing, f"{split}_videos")
    return rows


def _reading(data: DataConfig, split: str, labels: str) -> LabelReading:
    """How the "train" or "eval" labels are read; a file that marks no splits is read whole."""
    reading = LabelReading(
        mos_range=_native_range(data.mos_low, data.mos_high, ""),
        scale=data.scale,
        split=data.train_split or None,
        need_split=False,
        video_column=data.video_column,
        mos_column=data.mos_column,
        pairs=isinstance(data, SupervisedDataConfig),
    )
    if split == "train":
        return reading
    # what neither settings nor file say of the validation labels is as for training, but for the split
    trained = data.train_labels
    is_same_file = isinstance(trained, str) and os.path.samefile(labels, trained)
    takes_the_rest = is_same_file and not data.eval_split
    return replace(
        reading,
        mos_range=_native_range(data.eval_mos_low, data.eval_mos_high, "eval_"),
        usual_range=reading.mos_range,
        split=data.eval_split or None,
        pairs=True,  # validation takes what has a score and leaves others out
        outside=reading.split if takes_the_rest else None,
        video_column=data.eval_video_column or data.video_column,
        mos_column=data.eval_mos_column or data.mos_column,
    )


def _native_range(low: float | None, high: float | None, prefix: str) -> tuple[float, float] | None:
    """The range that the settings tell, whose names have a prefix; None leaves it to the label file."""
    if low is None and high is None:
        return None
    if low is None or high is None:
        raise ValueError(f"{prefix}mos_low and {prefix}mos_high need one another: give both, or none")
    return low, high


def load_model(
    model: ModelConfig, told: Mapping[str, Any] | None = None
) -> tuple[VQAThinkerForConditionalGeneration | PeftModel, VQAThinkerProcessor]:
    """Model and processor of the configured checkpoint.

    An adapter is trained on with `use_peft`: it stays an adapter of its own base. Without, it is merged and
    the whole model is trained.

    Args:
        model: the settings.
        told: those that the user gave, by name.

    Raises:
        ValueError: if it is incomplete, or LoRA options contradict the adapter that would be trained on.
    """
    path = checkpoint_folder(str(model.model_name_or_path)).resolve()  # an adapter remembers it
    attention = {"attn_implementation": model.attn_implementation} if model.attn_implementation else {}
    dtype = model.dtype if model.dtype in {None, "auto"} else getattr(torch, model.dtype)
    told = told or {}
    if model.use_peft and is_adapter(path):
        if problems := list(other_settings(path, told)):
            raise ValueError("\n".join(problems))
        dropout = model.lora_dropout if "lora_dropout" in told else None
        return load_adapted(path, dtype=dtype or "auto", dropout=dropout, **attention)
    return load_policy(path, dtype=dtype or "auto", **attention)


def lora(model: ModelConfig, policy: VQAThinkerForConditionalGeneration | PeftModel) -> PeftConfig | None:
    """TRL's LoRA settings, on the language model's linear layers unless others are named.

    None without `use_peft`, and for a policy that has an adapter already.

    Layers of the vision tower have names like those of the language model; they take part only where
    `lora_target_modules` says `vision_tower`. The motion projector, which `vqathinker init` starts from
    random weights, is trained whole unless `lora_modules_to_save` names others.
    """
    if not model.use_peft or isinstance(policy, PeftModel):
        return None
    model.lora_target_modules = model.lora_target_modules or LANGUAGE_LAYERS  # type: ignore[assignment]
    if model.lora_modules_to_save is None and hasattr(policy.model, "motion_projector"):
        model.lora_modules_to_save = ["motion_projector"]
    config: Any = get_peft_config(model)
    if "vision_tower" not in str(model.lora_target_modules):
        config.exclude_modules = VISION_LAYERS
    return config  # type: ignore[no-any-return]
