"""What every recipe does first: read its settings, its labels and its checkpoint, or say what is missing.

The composition itself stays in the recipes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import ModelConfig, TrlParser

from vqathinker.media.dataset import load_labels
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.assemble import load_policy

USER_ERROR = 2
HOW_TO_GET = {
    "model_name_or_path": (
        "a checkpoint directory. Put one together from the published parts: vqathinker init --internvl "
        "OpenGVLab/InternVL3-8B-hf --slowfast SLOWFAST_8x8_R50.pyth --out DIR"
    ),
    "train_labels": (
        "a label file. LSVQ: request access from its authors (LIVE, University of Texas at Austin), then give its "
        "labels_train_test.csv; your own videos: a CSV with the columns video,mos"
    ),
    "train_videos": "the directory that the names in the label file are relative to",
}


@dataclass
class DataConfig:
    """Which videos a run learns from.

    Attributes:
        train_labels: label file in one of the supported formats.
        train_videos: directory that its names are relative to.
        eval_labels: label file for validation during training.
        eval_videos: its directory, that of the training videos if omitted.
        dataset_name: name under which the videos are compared with one another; from the label file if omitted.
        mos_low: lower end of the native scale.
        mos_high: upper end of the native scale.
        scale: how labels reach the prompt's 1-5 scale: "divide", "clip" or "affine".
        save_to: where the final checkpoint goes; `<output_dir>/final` if omitted.
    """

    train_labels: str | None = None
    train_videos: str | None = None
    eval_labels: str | None = None
    eval_videos: str | None = None
    dataset_name: str | None = None
    mos_low: float = 0.0
    mos_high: float = 100.0
    scale: str = "divide"
    save_to: str | None = None


def parse(settings: Sequence[type], default_config: Path) -> tuple[Any, ...]:
    """Read settings from a YAML file and the command line, which wins.

    Args:
        settings: dataclasses, TRL's `ModelConfig` and `DataConfig` among them.
        default_config: the YAML file used without `--config`.
    """
    arguments = sys.argv[1:]
    if "--config" not in arguments:
        arguments = ["--config", str(default_config), *arguments]
    return tuple(TrlParser(dataclass_types=settings).parse_args_and_config(arguments))


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program with status 2 and one message where a setting or a file of the user is at fault."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(USER_ERROR) from error


def load_data(data: DataConfig, split: str) -> Dataset | None:
    """Rows of the "train" or "eval" labels; None where no validation labels are named.

    Raises:
        ValueError: if the labels are missing or at fault.
    """
    labels = data.train_labels if split == "train" else data.eval_labels
    videos = data.train_videos if split == "train" else data.eval_videos or data.train_videos
    if labels is None and split == "eval":
        return None
    require(train_labels=labels, train_videos=videos)
    mos_range = (data.mos_low, data.mos_high)
    return load_labels(labels, video_dir=videos, dataset=data.dataset_name, mos_range=mos_range, scale=data.scale)


def load_model(model: ModelConfig) -> tuple[VQAThinkerForConditionalGeneration, VQAThinkerProcessor]:
    """Model and processor of the configured checkpoint.

    Raises:
        ValueError: if it is missing or incomplete.
    """
    require(model_name_or_path=model.model_name_or_path)
    attention = {"attn_implementation": model.attn_implementation} if model.attn_implementation else {}
    dtype = model.dtype if model.dtype in {None, "auto"} else getattr(torch, model.dtype)
    return load_policy(model.model_name_or_path, dtype=dtype or "auto", **attention)


def require(**paths: str | None) -> None:
    """Check that every named path is given and exists.

    Raises:
        ValueError: naming all that are missing and how to get them.
    """
    missing = [
        f"--{name}: {'not given' if path is None else f'{path} does not exist'}; give {HOW_TO_GET[name]}"
        for name, path in paths.items()
        if path is None or not Path(path).exists()
    ]
    if missing:
        raise ValueError("\n".join(missing))
