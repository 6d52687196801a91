"""Whether rows can be taught, and what they have in common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any

from datasets import Dataset

from vqathinker.model import VQAThinkerProcessor
from vqathinker.prompts import LEVEL_OPENING
from vqathinker.samples import SCORE
from vqathinker.scale import VOCABULARIES
from vqathinker.training.sft.collate import level_told
from vqathinker.training.sft.objective import LossConfig

LEVEL_WORDS = frozenset(word for words in VOCABULARIES.values() for word in words)


def check_samples(dataset: Dataset, losses: LossConfig | None = None) -> None:
    """Refuse samples that cannot be taught.

    Args:
        dataset: rows.
        losses: what they are learned by.

    Raises:
        ValueError: naming the first, and the way out.
    """
    losses = losses or LossConfig()
    columns = ("video_id", "answer", "target", "levels", "beside", "preference")
    for row in _rows(dataset, *columns):
        name, answer = row["video_id"], row["answer"]
        has_levels = losses.reads_levels and row["levels"] is not None
        has_target = row["target"] is not None and not math.isnan(row["target"])
        if row["beside"] is not None and answer is None and row["preference"] is None:
            raise ValueError(f"{name} has two media and neither an answer nor a preference: nothing to learn")
        if answer is None and row["preference"] is None and not has_levels and not has_target:
            raise ValueError(f"{name} has neither an answer nor a target: nothing can be learned from it")
        if answer is None or not has_levels or row["beside"] is not None:
            continue
        told = level_told(answer)
        if told is None or told[1] not in losses.words:
            raise ValueError(
                f"{name} has a distribution over levels, and its answer {answer!r} does not say "
                f"{LEVEL_OPENING!r} (or image) and one of {', '.join(losses.words)}; choose the words by "
                "level_words, or leave the answer or the levels out"
            )


def has_pairs(dataset: Dataset) -> bool:
    """Whether there are pairs of which the better one is to be told."""
    rows = _rows(dataset, "preference", "answer")
    return any(row["preference"] is not None and row["answer"] is None for row in rows)


def tell_levels(processor: VQAThinkerProcessor, losses: LossConfig, dataset: Dataset) -> bool:
    """Let the checkpoint know how levels are read that its rows teach: their words, and what is asked.

    It is asked what the rows ask; where they ask several things, the checkpoint's own question for levels if
    it is among them, else the most frequent one.

    Args:
        processor: that of the checkpoint.
        losses: which words are meant.
        dataset: rows that are learned from.

    Returns:
        Whether levels are what rows of the task `score` teach.

    Raises:
        ValueError: if distributions over levels are to be learned and no row has any, or the tokenizer cannot
            tell the words apart.
    """
    columns = ("task", "question", "answer", "levels", "beside", "preference")
    rows = [row for row in _rows(dataset, *columns) if _teaches_level(row, losses)]
    if not rows:
        if losses.reads_levels:
            raise ValueError(
                f"level_loss {losses.level_loss!r} needs samples with levels or pairs, and these have none; "
                "`vqathinker build` makes them, or leave it out"
            )
        return False
    said = {told[1] for row in rows if (told := level_told(row["answer"])) is not None}
    fitting = [words for words in (losses.words, *VOCABULARIES.values()) if said <= set(words)]
    usual = processor.level_words
    processor.level_words = list(fitting[0] if fitting else losses.words)
    try:
        assert processor.level_ids, "five, or an error"
    except ValueError:  # words that no reading can tell apart can still be learned as text
        if losses.reads_levels or has_pairs(dataset):
            raise
        processor.level_words = usual
        return False
    own = processor.prompt["question"]
    asked = Counter(own if row["question"] is None else row["question"] for row in rows)
    if processor.level_question not in asked:
        processor.level_question = max(sorted(asked), key=lambda question: asked[question])
    return any(row["task"] in (None, SCORE) and row["beside"] is None for row in rows)


def _teaches_level(row: Mapping[str, Any], losses: LossConfig) -> bool:
    """Whether a row teaches a level: as the end of a sentence, as a distribution, or by a comparison."""
    if row["answer"] is None:
        return row["preference"] is not None or (losses.reads_levels and row["levels"] is not None)
    told = level_told(row["answer"])
    return row["beside"] is None and told is not None and told[1] in LEVEL_WORDS


def _rows(dataset: Dataset, *names: str) -> Iterator[dict[str, Any]]:
    """Some columns of each row, None where the data set does not have them."""
    # sets of millions: what is not asked for is not read
    columns = [
        dataset[name][:] if name in dataset.column_names else repeat(None, len(dataset)) for name in names
    ]
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))
