"""From single rows with their responses, gathered over all processes, to one `RolloutBatch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vqathinker.types import RolloutBatch

ROW_KEYS = ("dataset", "video_id", "target", "twin_text")


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

    @classmethod
    def from_row(cls, row: Mapping[str, Any], text: str, skipped: bool) -> Record:
        """Take what the rewards may need of a data set row."""
        columns = {key: value for key, value in row.items() if key not in ROW_KEYS}
        twin = row.get("twin_text")
        return cls(row["dataset"], row["video_id"], row["target"], text, twin, skipped, columns)


def collect(
    records: Sequence[Record], *, think: bool = True
) -> tuple[RolloutBatch | None, dict[int, tuple[int, int]]]:
    """Group the records of all processes by video.

    Args:
        records: one per row, in any order; those marked as skipped are left out.
        think: whether responses need a think block to have a score.

    Returns:
        The batch (None if every record is skipped) and, for each record kept, its place (video, response).

    Raises:
        ValueError: if the videos differ in their number of responses, the responses of a video in its target,
            or only some have a twin text.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for place, record in enumerate(records):
        if not record.skipped:
            groups.setdefault((record.dataset, record.video_id), []).append(place)
    if not groups:
        return None, {}
    kept = [record for record in records if not record.skipped]
    counts = {key: len(rows) for key, rows in groups.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"every video needs the same number of responses in the global batch, got {counts}")
    for key, rows in groups.items():
        if len({records[place].target for place in rows}) > 1:
            raise ValueError(f"the rows of the video {key} have different targets")
    num_twins = sum(record.twin_text is not None for record in kept)
    if num_twins not in (0, len(kept)):
        raise ValueError(f"{num_twins} of {len(kept)} rows have a twin_text; give it for all or for none")
    first = [records[rows[0]] for rows in groups.values()]
    texts = [[records[place].text for place in rows] for rows in groups.values()]
    twins = [[str(records[place].twin_text) for place in rows] for rows in groups.values()]
    batch = RolloutBatch.from_texts(
        texts,
        [record.target for record in first],
        video_id=[record.video_id for record in first],
        dataset=[record.dataset for record in first],
        perturbed=twins if num_twins else None,
        columns={name: [record.columns[name] for record in first] for name in first[0].columns},
        think=think,
    )
    places = {place: (i, k) for i, rows in enumerate(groups.values()) for k, place in enumerate(rows)}
    return batch, places
