"""Instruction data by a builder."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, cast

from vqathinker import plugins
from vqathinker.building.asking import Patience, clients_of, most_at_once
from vqathinker.building.stage import EachStage, Workplace
from vqathinker.instructions import BUILDERS, GROUP, Builder, Built
from vqathinker.instructions.showing import NUM_FRAMES, Shower
from vqathinker.samples import Sample

MODELS = ("model", "editor")


class BuildSamples(EachStage):
    """What a builder makes of each sample.

    Args:
        place: where it works.
        builder: key of `BUILDERS`, dotted path or entry point.
        concurrency: samples that are built at the same time; as many as the models take questions if omitted.
        num_frames: of a video that is shown to a model.
        **options: of the builder; `model` and `editor` say which language model (`Workplace.client`).

    Raises:
        ValueError: for an unknown builder or option.
    """

    def __init__(
        self,
        place: Workplace,
        *,
        builder: str,
        concurrency: int | None = None,
        num_frames: int = NUM_FRAMES,
        **options: Any,
    ) -> None:
        self.place = place
        clients = clients_of(place, options, MODELS)
        self.clients = list(clients.values())
        self.patience = Patience(most_at_once(clients, concurrency))
        given: dict[str, Any] = {name: value for name, value in options.items() if name not in MODELS}
        factory = plugins.find(builder, BUILDERS, group=GROUP)
        if "show" in inspect.signature(factory).parameters and clients:
            given["show"] = Shower(place.locate, place.reader, num_frames)
        self.builder = cast(Builder, plugins.resolve(builder, BUILDERS, group=GROUP, **given, **clients))

    def run(self, samples: Sequence[Sample]) -> Iterator[Built]:
        """What becomes of each sample; several wait for their answers at a time."""
        return self.patience.map(lambda sample: self.builder(sample, self.place.rng(sample)), samples)
