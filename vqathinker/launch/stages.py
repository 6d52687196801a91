"""What a stage of tuning is told beside numbers: which parts are trained, and on which files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqathinker.launch.settings import Settings
from vqathinker.nearest import or_nearest

# by the names of the papers, what the modules are called
PARTS = {
    "vision_tower": "vision_tower",
    "vision_projector": "multi_modal_projector",
    "slowfast": "slowfast",
    "motion_projector": "motion_projector",
    "language_model": "language_model",
}
ZERO_STAGE = "ACCELERATE_DEEPSPEED_ZERO_STAGE"  # set by `accelerate launch`
OF_A_SOURCE = ("labels", "videos", "weight")


@dataclass(frozen=True)
class Source:
    """A file that is learned from.

    Attributes:
        labels: samples or labels.
        videos: the folder that its names start from.
        weight: how often each of its rows comes in an epoch; of a fraction, so many are drawn.
    """

    labels: str
    videos: str
    weight: float = 1.0


def sources_of(told: Any, videos: str | None) -> list[Source]:  # noqa: ANN401  a name, or a list of a YAML
    """The files of `train_labels`: one name, or a list of names and of mappings.

    Args:
        told: the setting.
        videos: the folder of those that name none.

    Raises:
        ValueError: for an entry that cannot be.
    """
    found = []
    for entry in told if isinstance(told, list) else [told]:
        values = entry if isinstance(entry, Mapping) else {"labels": entry}
        if unknown := [str(key) for key in values if key not in OF_A_SOURCE]:
            hint = or_nearest(unknown[0], list(OF_A_SOURCE))
            raise ValueError(f"there is no {unknown[0]!r} of a source{hint}")
        weight = values.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ValueError(f"the weight {weight!r}: expected a number above 0")
        folder = values.get("videos", videos)
        if not values.get("labels") or folder is None:
            raise ValueError(f"{entry!r}: expected labels, and videos here or as train_videos")
        found.append(Source(str(values["labels"]), str(folder), float(weight)))
    return found


def rates_of(parts: Sequence[Any]) -> dict[str, float | None]:
    """The parts that are trained, with their learning rates where they have one of their own.

    Args:
        parts: names, `name=rate`, or mappings of names to rates.

    Raises:
        ValueError: for a part that there is not, or a rate that is none.

    >>> rates_of(["vision_tower", "slowfast=1e-6"])
    {'vision_tower': None, 'slowfast': 1e-06}
    """
    told: dict[str, Any] = {}
    for item in parts:
        if isinstance(item, Mapping):
            told |= item
        else:
            name, _, rate = str(item).partition("=")
            told[name] = rate or None
    for name in told:
        if name not in PARTS:
            hint = or_nearest(name, list(PARTS))
            raise ValueError(f"{name!r}, expected some of {', '.join(PARTS)}{hint}")
    return {name: _rate(name, rate) for name, rate in told.items()}


def _rate(name: str, told: Any) -> float | None:  # noqa: ANN401  what a YAML may hold
    try:
        rate = -1.0 if isinstance(told, bool) else None if told is None else float(told)
    except (TypeError, ValueError):  # no number
        rate = -1.0
    if rate is not None and not 0 <= rate < math.inf:
        raise ValueError(f"the learning rate of {name} is {told!r}, expected a number")
    return rate


def wrong_stage(settings: Settings) -> Iterator[str]:
    """Parts and sources that cannot be."""
    parts = settings.get("parts")
    if parts is not None:
        origin = settings.origin["parts"]
        if not parts:
            yield f"{origin}: names no part, expected some of {', '.join(PARTS)}"
        try:
            names = rates_of(parts)
        except ValueError as error:
            names = {}
            yield f"{origin}: {error}"
        if "slowfast" in names and os.environ.get(ZERO_STAGE) == "3":
            yield f"{origin}: ZeRO-3 would split SlowFast's weights, which learn whole; use zero2"
        if settings["use_peft"]:
            yield f"{origin}: parts are trained whole, and use_peft trains an adapter; leave one of them out"
    if settings.get("in_sequence") and settings.is_told("train_sampling_strategy"):
        yield "--in_sequence true: the order is that of the files; leave train_sampling_strategy out"
    if isinstance(settings["train_labels"], list):
        yield from _wrong_sources(settings)


def _wrong_sources(settings: Settings) -> Iterator[str]:
    origin = settings.origin["train_labels"]
    if not settings["train_labels"]:
        yield f"{origin}: names no file"
    try:
        sources = sources_of(settings["train_labels"], settings["train_videos"])
    except ValueError as error:
        yield f"{origin}: {error}"
        return
    for source in sources:
        if not Path(source.labels).is_file():
            yield f"{origin}: {source.labels} is not a file"
        if not Path(source.videos).is_dir():
            yield f"{origin}: {source.videos} is not a folder"
