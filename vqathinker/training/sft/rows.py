"""Whether rows can be taught, and what they have in common."""

from __future__ import annotations

import math
from typing import Any

from datasets import Dataset

from vqathinker.model import VQAThinkerProcessor
from vqathinker.training.sft.collate import before_level
from vqathinker.training.sft.objective import LossConfig


def check_samples(dataset: Dataset, losses: LossConfig | None = None) -> None:
    """Refuse samples that cannot be taught.

    Args:
        dataset: rows.
        losses: what they are learned by.

    Raises:
        ValueError: naming the first, and the way out.
    """
    losses = losses or LossConfig()
    names = ("answer", "target", "levels", "beside", "preference")
    columns = [_column(dataset, name) for name in names]
    for name, answer, target, levels, beside, preference in zip(dataset["video_id"], *columns, strict=True):
        if beside is not None and answer is None and preference is None:
            raise ValueError(f"{name} has two media and neither an answer nor a preference: nothing to learn")
        if (
            answer is None
            and preference is None
            and levels is None
            and (target is None or math.isnan(target))
        ):
            raise ValueError(f"{name} has neither an answer nor a target: nothing can be learned from it")
        if answer is None or levels is None or not losses.reads_levels:
            continue
        if before_level(answer, losses.words) is None:
            raise ValueError(
                f"{name} has a distribution over levels and an answer, {answer!r}, that says none of "
                f"{', '.join(losses.words)}; choose its words by level_words, or leave the levels out"
            )


def has_pairs(dataset: Dataset) -> bool:
    """Whether there are pairs of which the better one is to be told."""
    pairs = zip(_column(dataset, "preference"), _column(dataset, "answer"), strict=True)
    return any(preference is not None and answer is None for preference, answer in pairs)


def tell_levels(processor: VQAThinkerProcessor, losses: LossConfig, dataset: Dataset) -> None:
    """Let the checkpoint know how its levels are read: their words, and what is asked if all rows ask it."""
    processor.level_words = list(losses.words)
    asked = {
        question
        for question, levels in zip(_column(dataset, "question"), _column(dataset, "levels"), strict=True)
        if levels is not None
    }
    question = asked.pop() if len(asked) == 1 else None
    if question is not None:
        processor.level_question = question


def _column(dataset: Dataset, name: str) -> list[Any]:
    return dataset[name][:] if name in dataset.column_names else [None] * len(dataset)
