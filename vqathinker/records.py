"""From single rows with their responses, gathered over all processes, to one `RolloutBatch`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vqathinker.samples import SCORE
from vqathinker.types import RolloutBatch

ROW_KEYS = ("dataset", "video_id", "target", "twin_text", "task", "question", "answer")


@dataclass(frozen=True)
class Record:
    """One row with its response, as the processes exchange it."""

    dataset: str
    video_id: str
    target: float
    text: str
    twin_text: str | None = None
    skipped: bool = False
    columns: Mapping[str, Any] = field(default_factory=dict)
    task: str = SCORE
    question: str | None = None
    reference: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What names its sample."""
        return self.dataset, self.video_id

    @classmethod
    def from_row(cls, row: Mapping[str, Any], text: str, *, skipped: bool = False) -> Record:
        """Take what the rewards may need of a data set row."""
        target = row.get("target")
        columns = {key: value for key, value in row.items() if key not in ROW_KEYS}
        return cls(
            dataset=str(row.get("dataset", "")),
            video_id=str(row["video_id"]),
            target=math.nan if target is None else float(target),
            text=text,
            twin_text=row.get("twin_text"),
            skipped=skipped,
            columns=columns,
            task=row.get("task") or SCORE,
            question=row.get("question"),
            reference=row.get("answer"),
        )


def collect(
    records: Sequence[Record], *, think: bool = True, draws_twins: bool = False
) -> tuple[RolloutBatch | None, dict[int, tuple[int, int]]]:
    """Group the records of all processes by sample.

    Args:
        records: one per row, in any order; those marked as skipped are left out.
        think: whether responses need a think block to have a score.
        draws_twins: whether samples have twins where they can: `perturbed` is there then even if none has.

    Returns:
        The batch (None if every record is skipped) and, for each record kept, its place (video, response).

    Raises:
        ValueError: if the samples differ in their number of responses, or the rows of one in its target or
            in whether they have a twin text.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for place, record in enumerate(records):
        if not record.skipped:
            groups.setdefault(record.key, []).append(place)
    if not groups:
        return None, {}
    counts = {key: len(rows) for key, rows in groups.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"every video needs the same number of responses in the global batch, got {counts}")
    for key, rows in groups.items():
        told = [records[place] for place in rows]
        # a target that is not known is NaN, which equals nothing
        if len({str(record.target) for record in told}) > 1:
            raise ValueError(f"the rows of the video {key} have different targets")
        if len({record.twin_text is None for record in told}) > 1:
            num_twins = sum(record.twin_text is not None for record in told)
            raise ValueError(
                f"{num_twins} of {len(told)} rows have a twin_text for {key}; give it for all or none"
            )
    first = [records[rows[0]] for rows in groups.values()]
    texts = [[records[place].text for place in rows] for rows in groups.values()]
    twins = [[records[place].twin_text or "" for place in rows] for rows in groups.values()]
    has_twin = np.array([record.twin_text is not None for record in first])
    batch = RolloutBatch.from_texts(
        texts,
        [record.target for record in first],
        video_id=[record.video_id for record in first],
        dataset=[record.dataset for record in first],
        perturbed=twins if draws_twins or has_twin.any() else None,
        columns={name: [record.columns.get(name) for record in first] for name in first[0].columns},
        think=think,
        task=[record.task for record in first],
        question=[record.question for record in first],
        reference=[record.reference for record in first],
        has_twin=has_twin,
    )
    places = {place: (i, k) for i, rows in enumerate(groups.values()) for k, place in enumerate(rows)}
    return batch, places
