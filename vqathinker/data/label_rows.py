"""What rows tell, of a label file or of samples: their tasks, which have a score, which labels they are."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from vqathinker.samples import SCORE

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


def files_of(dataset: Dataset) -> list[str]:
    """The files of the rows, the second ones of pairs among them."""
    others = dataset["beside"][:] if "beside" in dataset.column_names else []
    return [*dataset["path"], *filter(None, others)]


def tasks_of(dataset: Dataset) -> list[str]:
    """The task of each row; rows of a label file are scored."""
    given = dataset["task"][:] if "task" in dataset.column_names else [None] * len(dataset)
    return [task or SCORE for task in given]


def scored_rows(dataset: Dataset) -> Dataset:
    """The rows that have a score to compare with; the others are logged.

    Raises:
        ValueError: if there is none.
    """
    tasks = tasks_of(dataset)
    rows = [row for row, task in enumerate(tasks) if task == SCORE]
    names = ", ".join(sorted(set(tasks) - {SCORE}))
    if not rows:
        raise ValueError(f"none of {len(tasks)} samples has a score to compare with; they are of {names}")
    left_out = len(tasks) - len(rows)
    if not left_out:
        return dataset
    logger.warning("%d samples of %s are left out: they have no score to compare with", left_out, names)
    return dataset.select(rows)


def label_settings(dataset: Dataset) -> dict[str, Any]:
    """The number of labels, a digest of them, and the distinct MOS ranges of each data set."""
    names = ["dataset", "video_id", "mos", "target"]
    names += ["question"] if "question" in dataset.column_names else []
    digest = hashlib.sha256(json.dumps([dataset[name][:] for name in names]).encode()).hexdigest()[:16]
    ranges: dict[str, list[list[float]]] = {}
    limits = zip(*(dataset[name] for name in ("dataset", "mos_low", "mos_high")), strict=True)
    for name, *limit in sorted(set(limits)):
        ranges.setdefault(name, []).append(limit)
    return {"num_labels": dataset.num_rows, "labels_digest": digest, "native_ranges": ranges}
