"""One generation batch of this process as it travels from stage to stage: rows, media, responses.

Samples are told apart by data set and id. Samples that ask of the same file share what was decoded and
encoded of it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vqathinker.media.container import VideoError
from vqathinker.training.grpo.rows import Row, RowResponse, VideoInputs
from vqathinker.types import IndexArray

Key = tuple[str, str]


def key_of(row: Row) -> Key:
    """What names the sample of a row."""
    return row["dataset"], row["video_id"]


class ReadFile(NamedTuple):
    """What a file holds for training.

    Attributes:
        pixels: (T, 3, S, S) normalised keyframes, or why there are none.
        cache_path: where the motion cache keeps its feature; None for nowhere.
    """

    pixels: Tensor | VideoError
    cache_path: Path | None = None

    @property
    def is_readable(self) -> bool:
        """Whether there are pixels."""
        return not isinstance(self.pixels, VideoError)


@dataclass(frozen=True, eq=False)
class Twin:
    """How the copy of a sample's video is perturbed: the mode's name and the order of its frames."""

    mode: str
    indices: IndexArray


@dataclass(frozen=True, eq=False)
class ReadBatch:
    """Rows with their files.

    Attributes:
        rows: K for each sample.
        files: path to content, each file once.
    """

    rows: Sequence[Row]
    files: Mapping[str, ReadFile]

    @property
    def samples(self) -> dict[Key, Row]:
        """A row of each sample, in order of appearance."""
        first: dict[Key, Row] = {}
        for row in self.rows:
            first.setdefault(key_of(row), row)
        return first


@dataclass(frozen=True, eq=False)
class AnsweredBatch:
    """Rows with what the model saw and said.

    Attributes:
        rows: K for each sample.
        inputs: what a forward pass needs of each sample's video; an object of its own for each.
        twins: the perturbations of those samples that have a twin.
        responses: one per row.
    """

    rows: Sequence[Row]
    inputs: Mapping[Key, VideoInputs]
    twins: Mapping[Key, Twin]
    responses: Sequence[RowResponse]

    @property
    def videos(self) -> list[VideoInputs]:
        """The inputs of each row; the rows of a sample share one object."""
        return [self.inputs[key_of(row)] for row in self.rows]
