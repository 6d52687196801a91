"""Annotators: one file, one class, one key each.

An annotator maps N paths to (N,) scores, or to several opinions by name, (N,) each. More is better; a medium
that it cannot score has NaN. One that reads files by a `GuardedReader` has it in the attribute `reader`,
which a build replaces by the reader of all its stages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from numpy.typing import ArrayLike

from vqathinker import plugins
from vqathinker.opinions.annotators.classical import MeasuresAnnotator
from vqathinker.opinions.annotators.command import CommandAnnotator
from vqathinker.opinions.annotators.quality_metric import QualityMetricAnnotator
from vqathinker.opinions.annotators.table import TableAnnotator

Annotator = Callable[[Sequence[str]], "ArrayLike | Mapping[str, ArrayLike]"]

GROUP = "vqathinker.annotators"
# needs the floor above this one, and is imported when it is asked for
CHECKPOINT = "vqathinker.scoring.annotator:CheckpointAnnotator"


def checkpoint_annotator(folder: str, **options: Any) -> Annotator:
    """One of our checkpoints; see `scoring.annotator`."""
    return cast(Annotator, plugins.import_path(CHECKPOINT)(folder, **options))


ANNOTATORS: dict[str, Callable[..., Annotator]] = {
    "csv": TableAnnotator,
    "measures": MeasuresAnnotator,
    "pyiqa": QualityMetricAnnotator,
    "checkpoint": checkpoint_annotator,
    "command": CommandAnnotator,
}


def build_annotator(item: object) -> tuple[str, Annotator]:
    """An annotator and its label.

    Args:
        item: a key of `ANNOTATORS`, if need be with its first argument (`pyiqa:musiq`, `csv:scores.csv`,
            `checkpoint:out/final`, `command:./score.sh`), a dotted path or an entry point; or a mapping of
            `name` with its arguments and, in `as`, the label.

    Raises:
        ValueError: for an unknown name or a wrong argument.

    >>> build_annotator("measures")[0]
    'measures'
    """
    options: dict[str, Any] = dict(item) if isinstance(item, Mapping) else {"name": item}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"annotators: expected a name or a mapping with a 'name', got {item!r}")
    label = str(options.pop("as", name))
    key, _, argument = name.partition(":")
    if argument and key in ANNOTATORS:
        factory = ANNOTATORS[key]
        try:
            return label, factory(argument, **options)
        except TypeError as error:
            raise ValueError(f"annotator {name!r}: {error}") from error
    return label, cast(Annotator, plugins.resolve(name, ANNOTATORS, group=GROUP, **options))
