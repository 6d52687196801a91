"""Rows of several files as those of one epoch, mixed in proportions or one file after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqathinker.data.label_rows import tasks_of
from vqathinker.media.names import is_image_name
from vqathinker.samples import IMAGE, VIDEO
from vqathinker.seeds import rng_of

if TYPE_CHECKING:
    from datasets import Dataset


def mix(
    parts: Sequence[Dataset],
    weights: Sequence[float],
    *,
    seed: int,
    in_sequence: bool = False,
    most: int = 0,
) -> Dataset:
    """Rows of several sets; columns that one of them lacks are None there.

    Args:
        parts: the sets.
        weights: how often each row of a set comes; of a fraction, so many are drawn.
        seed: of the drawing.
        in_sequence: whether the rows of each set stand in a drawn order, as for a sampler that draws none.
        most: rows in all, drawn from the others with equal chances; 0 for all.
    """
    from datasets import Dataset

    drawn = [
        _places(len(part), weight, rng_of(seed, "mixture", number), shuffled=in_sequence)
        for number, (part, weight) in enumerate(zip(parts, weights, strict=True))
    ]
    names = list(dict.fromkeys(name for part in parts for name in part.column_names))
    for name in names:
        kinds = {kind for part in parts if name in part.column_names for kind in _kind(part, name)}
        if len(kinds) > 1:
            raise ValueError(
                f"the column {name!r} holds {' in one file and '.join(sorted(kinds))} in another"
            )
    picked = [part.select(places) for part, places in zip(parts, drawn, strict=True)]
    columns = {
        name: [
            value
            for part in picked
            for value in (part[name][:] if name in part.column_names else [None] * len(part))
        ]
        for name in names
    }
    whole = Dataset.from_dict(columns)
    if not 0 < most < len(whole):
        return whole
    kept = rng_of(seed, "mixture").permutation(len(whole))[:most]
    return whole.select(np.sort(kept))


def chosen(rows: Dataset, *, tasks: Sequence[str] | None = None, media: str | None = None) -> Dataset:
    """The rows of some tasks, and about one kind of media.

    Args:
        rows: as `load_labels` gives them; those of a label file are of the task "score".
        tasks: which; None for all.
        media: "image" or "video", which all media of a row are then; None for both.

    Raises:
        ValueError: naming what there is, if no row is left.
    """
    if tasks is None and media is None:
        return rows
    others = rows["beside"] if "beside" in rows.column_names else [None] * len(rows)
    # of both media: a picture beside a video is neither
    kinds = [
        {IMAGE if is_image_name(path) else VIDEO for path in (first, second) if path}
        for first, second in zip(rows["path"], others, strict=True)
    ]
    found = list(zip(tasks_of(rows), kinds, strict=True))
    kept = [
        place
        for place, (task, kind) in enumerate(found)
        if (tasks is None or task in tasks) and (media is None or kind == {media})
    ]
    # a file of which nothing is learned was named by mistake
    if not kept:
        there = sorted({f"{task} of {' and '.join(sorted(kind))}" for task, kind in found})
        wanted = " or ".join(tasks or ["any task"])
        raise ValueError(f"no sample is {wanted} of {media or 'any media'}; there are {', '.join(there)}")
    return rows.select(kept)


def _kind(part: Dataset, name: str) -> set[str]:
    """What a column holds; nothing where all is None."""
    kind = str(part.data.schema.field(name).type)
    if kind == "null":
        return set()
    return {"lists" if kind.startswith("list") else "text" if kind == "string" else "numbers"}


def _places(number: int, weight: float, rng: np.random.Generator, *, shuffled: bool) -> NDArray[np.int_]:
    """Which rows of a set come, and how often."""
    copies, rest = divmod(round(weight * number), number)
    if not copies and not rest:
        raise ValueError(f"of its {number} rows the weight {weight:g} leaves none; give a larger one")
    drawn = np.sort(rng.permutation(number)[:rest])
    places = np.concatenate([np.tile(np.arange(number), copies), drawn])
    return rng.permutation(places) if shuffled else places
