"""Instruction data by a builder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from vqathinker import plugins
from vqathinker.building.asking import attempt, clients_of, watched
from vqathinker.building.stage import EachStage, Place
from vqathinker.instructions import BUILDERS, GROUP, Builder, Built, Depiction
from vqathinker.instructions.showing import NUM_FRAMES, Shower
from vqathinker.samples import Sample

MODELS = ("model", "editor")


class BuildSamples(EachStage):
    """What a builder makes of each sample.

    Args:
        place: where it works.
        builder: key of `BUILDERS`, dotted path or entry point.
        concurrency: samples that are built at the same time, where a language model is asked.
        num_frames: of a video that is shown to a model.
        **options: of the builder; `model` and `editor` say which language model (`Place.client`).

    Raises:
        ValueError: for an unknown builder or option.
    """

    def __init__(
        self,
        place: Place,
        *,
        builder: str,
        concurrency: int = 8,
        num_frames: int = NUM_FRAMES,
        **options: Any,
    ) -> None:
        self.place = place
        clients = clients_of(place, options, MODELS)
        self.concurrency = concurrency if clients else 1
        given: dict[str, Any] = {name: value for name, value in options.items() if name not in MODELS}
        factory = plugins.find(builder, BUILDERS, group=GROUP)
        if factory is Depiction and clients:
            given["show"] = Shower(place.locate, place.reader, num_frames)
        self.builder = cast(Builder, plugins.resolve(builder, BUILDERS, group=GROUP, **given, **clients))

    def run(self, samples: Sequence[Sample]) -> Iterator[Built]:
        """What becomes of each sample; several wait for their answers at a time."""
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="build") as pool:
            yield from watched(pool.map(self._one, samples))

    def _one(self, sample: Sample) -> Built:
        return attempt(lambda: self.builder(sample, self.place.rng(sample)))
