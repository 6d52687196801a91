"""What can be known to fail before the first step of any training."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from datasets import Dataset
from torch import nn

from vqathinker.data.label_rows import files_of
from vqathinker.launch.processes import became_one

logger = logging.getLogger(__name__)

NUM_SHOWN = 5
TRL_COLUMNS = ("image", "images")


def check_files(dataset: Dataset, max_missing: float, option: str = "train_videos") -> None:
    """Look whether the files are there; report the missing ones.

    Args:
        dataset: rows of `load_labels`.
        max_missing: share of the files.
        option: which names their folder.

    Raises:
        ValueError: if a larger share is missing.
    """
    paths = list(dict.fromkeys(files_of(dataset)))  # several samples may ask about one
    missing = [path for path in paths if not Path(path).is_file()]
    if not missing:
        return
    shown = ", ".join(missing[:NUM_SHOWN]) + (", ..." if len(missing) > NUM_SHOWN else "")
    message = f"{len(missing)} of {len(paths)} videos do not exist: {shown}"
    if len(missing) > max_missing * len(paths):
        raise ValueError(
            f"{message}; more than the allowed share of {max_missing}. Is --{option} right? `vqathinker "
            "prepare` lists all"
        )
    logger.warning("%s; they will be skipped", message)


def check_columns(dataset: Dataset) -> None:
    """Refuse columns that TRL reads as pictures of a conversation.

    Raises:
        ValueError: naming the column.
    """
    for name in TRL_COLUMNS:
        if name in dataset.column_names:
            raise ValueError(f"the column {name!r} of the labels has a meaning of its own in TRL; rename it")


def check_processes(num_processes: int) -> None:
    """Warn where a launcher was asked for several processes and started one."""
    note = became_one()
    if note and num_processes == 1:
        logger.warning(note)


def check_precision(model: nn.Module, *, has_master_weights: bool) -> None:
    """Warn where the optimiser would round small updates away."""
    low = {p.dtype for p in model.parameters() if p.requires_grad} & {torch.bfloat16, torch.float16}
    if low and not has_master_weights:
        logger.warning(
            "the weights are trained in %s without 32-bit master weights, which rounds most updates of a "
            "small learning rate away; use DeepSpeed, or dtype: float32 (bf16: true computes in bfloat16)",
            ", ".join(str(dtype) for dtype in low),
        )
