"""What every recipe does first: read its settings, its labels and its checkpoint, or say what is missing.

The composition itself stays in the recipes.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from datasets import Dataset
from peft import PeftConfig
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from trl.scripts.utils import TrlParser
from trl.trainer.model_config import ModelConfig
from trl.trainer.utils import get_peft_config

from vqathinker.checkpoints import checkpoint_folder
from vqathinker.media.dataset import load_labels
from vqathinker.media.overlap import find_overlap
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.assemble import load_policy
from vqathinker.training.checks import check_files

logger = logging.getLogger(__name__)

USER_ERROR = 2
TRACEBACK = "VQATHINKER_TRACEBACK"  # set it to see where an error comes from
HOW_TO_GET = {
    "model_name_or_path": (
        "a checkpoint directory. Put one together from the published parts: vqathinker init --internvl "
        "OpenGVLab/InternVL3-8B-hf --slowfast SLOWFAST_8x8_R50.pyth --out DIR"
    ),
    "train_labels": (
        "a label file. LSVQ: request access from its authors (LIVE, University of Texas at Austin), then "
        "give its labels_train_test.csv; your own videos: a CSV with the columns video,mos"
    ),
    "train_videos": "the directory that the names in the label file are relative to",
    "eval_labels": "a label file as for training, or leave validation out",
    "eval_videos": "the directory that the names in its label file are relative to",
}
SPLIT_COLUMNS = {"split", "is_test"}
LANGUAGE_LAYERS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
VISION_LAYERS = r".*vision_tower.*"


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
        mos_column: column of the MOS, likewise.
        eval_video_column: that of the validation labels, as for training if omitted.
        eval_mos_column: likewise.
        dataset_name: name under which videos are compared with one another, for a label file without a column
            `dataset`; its stem if omitted.
        mos_low: lower end of the native scale.
        mos_high: upper end of the native scale.
        eval_mos_low: that of the validation labels, as for training if omitted.
        eval_mos_high: likewise.
        scale: how labels reach the prompt's 1-5 scale: "divide", "clip" or "affine".
        save_to: where the final checkpoint goes; `<output_dir>/final` if omitted.
        overwrite_output_dir: whether a new run may write into directories that hold something.
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
    mos_low: float = 0.0
    mos_high: float = 100.0
    eval_mos_low: float | None = None
    eval_mos_high: float | None = None
    scale: str = "divide"
    save_to: str | None = None
    overwrite_output_dir: bool = False


@dataclass
class SupervisedDataConfig(DataConfig):
    """As `DataConfig`, for the recipe whose training settings are TRL's alone.

    Attributes:
        max_unreadable: share of the training videos that may be missing or unreadable before the run stops.
    """

    max_unreadable: float = 0.05


def parse(
    settings: Sequence[Any],
    default_config: Path,
    *,
    partly: bool = False,
    arguments: Sequence[str] | None = None,
) -> tuple[Any, ...]:
    """Read settings from a YAML file and the command line, which wins.

    Args:
        settings: dataclasses, TRL's `ModelConfig` and `DataConfig` among them.
        default_config: the YAML file used without `--config`.
        partly: leave options that belong to other dataclasses alone.
        arguments: in place of the command line's.

    Raises:
        ValueError: for unknown settings and for values that cannot be.
        OSError: if the YAML file cannot be read.
    """
    given: list[str] = []
    for argument in sys.argv[1:] if arguments is None else arguments:
        given += argument.split("=", 1) if argument.startswith("--config=") else [argument]
    if "--config" not in given:
        given = ["--config", str(default_config), *given]
    parser = TrlParser(dataclass_types=settings)
    for action in parser._actions:
        if action.nargs == "+":
            action.nargs = "*"  # an empty list is a value: --perturbations
    parsed = parser.parse_args_and_config(given, return_remaining_strings=partly)
    return tuple(parsed[: len(settings)])


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program with status 2 and one message where a setting or a file of the user is at fault."""
    try:
        yield
    except (ValueError, OSError, yaml.YAMLError) as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
        rank = "" if alone else f"[rank {os.environ.get('RANK', '0')}] "
        sys.stderr.write(f"{rank}error: {error}\n")
        raise SystemExit(USER_ERROR) from error


def claim_output(args: TrainingArguments, data: DataConfig) -> str | None:
    """Make sure that nothing is overwritten without being asked.

    Returns:
        The checkpoint to resume from, None for a new run.

    Raises:
        ValueError: if there is no checkpoint to resume from, or a new run would write beside other files.
    """
    wish = str(args.resume_from_checkpoint)
    resume: str | None = wish
    if wish.lower() in {"none", "false", ""}:
        resume = None
    elif wish.lower() == "true":
        resume = get_last_checkpoint(args.output_dir) if Path(str(args.output_dir)).is_dir() else None
        if resume is None:
            raise ValueError(f"resume_from_checkpoint: there is no checkpoint in {args.output_dir}")
    elif not Path(wish, "trainer_state.json").is_file():
        raise ValueError(f"resume_from_checkpoint: {wish} is no checkpoint of a run (no trainer_state.json)")
    for path in (args.output_dir, data.save_to):
        taken = path is not None and Path(path).is_dir() and any(Path(path).iterdir())
        if taken and not resume and not data.overwrite_output_dir:
            raise ValueError(
                f"{path} is not empty; choose another directory, continue with "
                "--resume_from_checkpoint true, or write beside what is there: --overwrite_output_dir true"
            )
    PartialState().wait_for_everyone()  # nobody writes before everybody has looked
    return resume


def load_sets(data: DataConfig, *, max_missing: float) -> tuple[Dataset, Dataset | None]:
    """Rows to train on and, where they are named, rows to validate with, which share no video.

    Args:
        data: names the files; training labels and videos are given.
        max_missing: share of the videos of each set that may be missing.

    Raises:
        ValueError: as `load_data`, or if the sets share videos and `allow_overlap` is not set.
    """
    train = load_data(data, "train", max_missing=max_missing)
    assert train is not None, "`require` has checked that they are given"
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
    low, high = data.mos_low, data.mos_high
    columns = {"video_column": data.video_column, "mos_column": data.mos_column}
    if split == "eval":
        low = low if data.eval_mos_low is None else data.eval_mos_low
        high = high if data.eval_mos_high is None else data.eval_mos_high
        columns["video_column"] = data.eval_video_column or data.video_column
        columns["mos_column"] = data.eval_mos_column or data.mos_column
    options = {"mos_range": (low, high), "scale": data.scale, **columns}
    rows = load_labels(labels, video_dir=videos, **options)  # type: ignore[arg-type]
    if data.dataset_name:
        if set(rows["dataset"]) != {Path(labels).stem}:
            raise ValueError(
                f"{labels} has a column dataset, which dataset_name={data.dataset_name!r} contradicts; leave "
                "one of them out"
            )
        options["dataset"] = data.dataset_name
        rows = load_labels(labels, video_dir=videos, **options)  # type: ignore[arg-type]
    wanted = data.train_split if split == "train" else data.eval_split
    if SPLIT_COLUMNS & set(rows.column_names):
        if wanted:
            rows = load_labels(labels, video_dir=videos, split=wanted, **options)  # type: ignore[arg-type]
        elif split == "eval" and data.train_split and _is_one_file(labels, data.train_labels):
            seen = load_labels(labels, split=data.train_split, **options)  # type: ignore[arg-type]
            rows = _without(rows, seen, f"{labels} marks no rows outside split {data.train_split!r}")
    check_files(rows, max_missing)
    return rows


def _is_one_file(path: str, other: str | None) -> bool:
    return other is not None and os.path.samefile(path, other)


def _without(rows: Dataset, seen: Dataset, none_left: str) -> Dataset:
    """The rows of a label file that another selection from it does not hold."""
    names = set(seen["prompt"])
    kept = [row for row, name in enumerate(rows["prompt"]) if name not in names]
    if not kept:
        raise ValueError(f"{none_left}; give other eval_labels")
    return rows.select(kept)


def check_evaluation(args: TrainingArguments, data: DataConfig) -> None:
    """Refuse validation labels that no evaluation would read.

    Raises:
        ValueError: naming the setting that is missing.
    """
    if data.eval_labels and args.eval_strategy == "no":
        raise ValueError("eval_labels are given but never used; add --eval_strategy steps --eval_steps 100")


def load_model(model: ModelConfig) -> tuple[VQAThinkerForConditionalGeneration, VQAThinkerProcessor]:
    """Model and processor of the configured checkpoint.

    Raises:
        ValueError: if it is incomplete.
    """
    path = checkpoint_folder(str(model.model_name_or_path)).resolve()  # an adapter remembers it
    attention = {"attn_implementation": model.attn_implementation} if model.attn_implementation else {}
    dtype = model.dtype if model.dtype in {None, "auto"} else getattr(torch, model.dtype)
    return load_policy(path, dtype=dtype or "auto", **attention)


def lora(model: ModelConfig, policy: VQAThinkerForConditionalGeneration) -> PeftConfig | None:
    """TRL's LoRA settings, on the language model's linear layers unless others are named.

    Layers of the vision tower have names like those of the language model; they take part only where
    `lora_target_modules` says `vision_tower`. The motion projector, which `vqathinker init` starts from
    random weights, is trained whole unless `lora_modules_to_save` names others.
    """
    if not model.use_peft:
        return None
    model.lora_target_modules = model.lora_target_modules or LANGUAGE_LAYERS  # type: ignore[assignment]
    if model.lora_modules_to_save is None and hasattr(policy.model, "motion_projector"):
        model.lora_modules_to_save = ["motion_projector"]
    config: Any = get_peft_config(model)
    if "vision_tower" not in str(model.lora_target_modules):
        config.exclude_modules = VISION_LAYERS
    return config  # type: ignore[no-any-return]


def require(data: DataConfig, model: ModelConfig) -> None:
    """Check that everything a run needs is given and exists.

    Raises:
        ValueError: naming all that is missing and how to get it.
    """
    paths = {
        "model_name_or_path": model.model_name_or_path,
        "train_labels": data.train_labels,
        "train_videos": data.train_videos,
    }
    paths |= {"eval_labels": data.eval_labels} if data.eval_labels else {}
    paths |= {"eval_videos": data.eval_videos} if data.eval_videos else {}
    missing = [
        f"--{name}: {'not given' if path is None else f'{path} does not exist'}; give {HOW_TO_GET[name]}"
        for name, path in paths.items()
        if path is None or not Path(path).exists()
    ]
    if missing:
        raise ValueError("\n".join(missing))
