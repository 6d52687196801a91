"""Sample files as rows beside label files: the same columns, and what each sample asks."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any

from vqathinker.media.names import is_image_name
from vqathinker.published import parse_published
from vqathinker.samples import IMAGE, SCORE, Sample, holds_samples, parse_samples
from vqathinker.scale import SCALE

OF_A_PAIR = ("first", "second")  # columns with what is known of its media, as a build writes them


def samples_in(text: str, *, dataset: str) -> list[Sample] | None:
    """The samples in the text of a file, ours or in a form of another project; None if it holds labels.

    Args:
        text: of the file.
        dataset: name of the data set of samples that tell none.

    Raises:
        ValueError: naming the line or entry, if one cannot be read.
    """
    if holds_samples(text):
        return list(parse_samples(text.split("\n"), dataset=dataset))
    return parse_published(text, dataset=dataset)


def sample_columns(
    samples: Sequence[Sample], folder: str | os.PathLike[str], *, pairs: bool = False
) -> dict[str, list[Any]]:
    """The columns of `load_labels` for samples, and `task`, `question` and `answer`.

    Where there are such, `levels` holds the probabilities of the five levels, and of a pair `beside` is the
    second file, `preference` its preference, `levels` those of both, one after the other. What else a sample
    says is text, as JSON where it was none. A target that is not known is NaN.

    Args:
        samples: as read.
        folder: that paths start from.
        pairs: whether a sample may have two media.

    Raises:
        ValueError: naming a sample that cannot be taken.
    """
    for sample in samples:
        if problem := _problem(sample, pairs=pairs):
            raise ValueError(f"the sample {sample.id!r}: {problem}")
    low, high = SCALE
    targets = [math.nan if sample.target is None else sample.target for sample in samples]
    columns: dict[str, list[Any]] = {
        "prompt": ["/".join(sample.key) for sample in samples],
        "video_id": [sample.id for sample in samples],
        "dataset": [sample.dataset for sample in samples],
        "path": [os.path.join(folder, sample.media[0].path) for sample in samples],
        "mos": targets,
        "mos_low": [low] * len(samples),
        "mos_high": [high] * len(samples),
        "target": targets,
        "task": [sample.task for sample in samples],
        "question": [sample.question for sample in samples],
        "answer": [sample.answer for sample in samples],
    }
    if any(sample.options for sample in samples):
        columns["options"] = [list(sample.options) or None for sample in samples]
        columns["correct"] = [sample.correct for sample in samples]
    if any(sample.spread is not None for sample in samples):
        columns["std"] = [math.nan if sample.spread is None else sample.spread for sample in samples]
    levels = [_levels(sample) for sample in samples]
    if any(levels):
        columns["levels"] = levels
    if any(len(sample.media) > 1 for sample in samples):
        others = [sample.media[1].path if len(sample.media) > 1 else None for sample in samples]
        columns["beside"] = [other and os.path.join(folder, other) for other in others]
        columns["preference"] = [sample.preference for sample in samples]
    for name in dict.fromkeys(name for sample in samples for name in sample.columns):
        if name in columns:
            raise ValueError(f"the column {name!r} is made by the reader; rename it")
        columns[name] = [_text(sample.columns.get(name)) for sample in samples]
    return columns


def _levels(sample: Sample) -> list[float] | None:
    """The probabilities of a sample's levels; of a pair's media if they are known of both."""
    if sample.levels is not None:
        return list(sample.levels)
    known = [sample.columns.get(name) for name in OF_A_PAIR]
    found = [one.get("levels") for one in known if isinstance(one, dict)]
    of_both = [levels for levels in found if levels]
    if len(sample.media) < len(OF_A_PAIR) or len(of_both) < len(OF_A_PAIR):
        return None
    return [float(share) for levels in of_both for share in levels]


def _problem(sample: Sample, *, pairs: bool) -> str:
    """Why a sample cannot be a row, empty if it can."""
    if len(sample.media) > 1 and not pairs:
        return "it has two media, and a row has one"
    if len(sample.media) > 1 and sample.levels is not None:
        return f"it has two media and levels; those of each stand in its columns {' and '.join(OF_A_PAIR)}"
    for medium in sample.media:
        if (medium.kind == IMAGE) != is_image_name(medium.path):
            return f"{medium.path} is no {medium.kind} by its suffix, which decides how it is read"
    if sample.task == SCORE and sample.target is None:
        return f"its task is {SCORE!r}, which needs a target"
    return ""


def _text(value: Any) -> str | None:  # noqa: ANN401  what a file may hold
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
