"""What a stage is, and what it may use."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker.building.parts import Parts
from vqathinker.chat import ChatClient, folder_of
from vqathinker.instructions import Built
from vqathinker.media.guarded import GuardedReader
from vqathinker.samples import Media, Sample
from vqathinker.seeds import rng_of

ANSWERS_FOLDER = "answers"
MEDIA_FOLDER = "media"


@dataclass(frozen=True)
class Workplace:
    """Where a stage works, and with what.

    Attributes:
        name: of the stage.
        root: folder that paths in sample files start from.
        work: folder of the build's own files.
        media: folder for media that the stage renders.
        settings: file of the stage's settings, as old as its first run with them.
        reader: reads and renders files, several at a time, in guarded processes.
        by_dataset: whether media of each data set go to a folder of their own.
        seed: of the build.
    """

    name: str
    root: Path
    work: Path
    media: Path
    settings: Path
    reader: GuardedReader
    by_dataset: bool = True
    seed: int = 0

    def locate(self, medium: Media) -> str:
        """The path of a medium's file."""
        return os.path.normpath(self.root / medium.path)

    def rng(self, sample: Sample) -> np.random.Generator:
        """The generator of a sample in this stage."""
        return rng_of(self.seed, self.name, *sample.key)

    def client(self, options: Any) -> ChatClient:  # noqa: ANN401  as a recipe says it
        """The client of a language model: its name, or `model`, `url` and other arguments of `ChatClient`.

        Raises:
            ValueError: if there is no such argument.
        """
        given = {"model": options} if isinstance(options, str) else dict(options)
        try:
            name = folder_of(str(given.get("model")), given.get("url"))
            return ChatClient(**{"journal": self.work / ANSWERS_FOLDER / name, **given})
        except TypeError as error:
            raise ValueError(f"the model of the stage {self.name!r}: {error}") from error


class EachStage(ABC):
    """Makes something of every sample alone: its parts run in any order, on any machine.

    Attributes:
        place: where it works.
        clients: of language models, closed when it has run.
    """

    place: Workplace
    clients: Sequence[ChatClient] = ()

    @abstractmethod
    def run(self, samples: Sequence[Sample]) -> Iterator[Built]:
        """What becomes of each of N samples, in their order."""


class WholeStage(ABC):
    """Needs to know all samples; reads them as often as it wants.

    Attributes:
        place: where it works.
        notes: what the report tells of it.
        left_out: samples that it makes nothing of, by reason.
    """

    place: Workplace
    notes: dict[str, Any]
    left_out: Counter[str]

    @abstractmethod
    def run(self, sources: Sequence[Parts]) -> Iterator[Sample]:
        """The samples that it makes."""
