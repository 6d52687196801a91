"""Statements that judges agree to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from vqathinker.building.asking import attempt, clients_of, watched
from vqathinker.building.stage import EachStage, Place
from vqathinker.instructions import Built, Judging
from vqathinker.instructions.judging import ROUNDS
from vqathinker.instructions.showing import NUM_FRAMES, Shower
from vqathinker.samples import Sample


class Judge(EachStage):
    """Keeps, corrects or discards statements; see `instructions.judging`.

    Args:
        place: where it works.
        judges: language models (`Place.client`), by name.
        self_judge: the model that wrote the statements; not asked if omitted.
        rounds: of each.
        num_frames: of a video that is shown.
        concurrency: statements that are judged at the same time.

    Raises:
        ValueError: if there is no judge, or no such argument of a model.
    """

    def __init__(
        self,
        place: Place,
        *,
        judges: dict[str, object],
        self_judge: object = None,
        rounds: int = ROUNDS,
        num_frames: int = NUM_FRAMES,
        concurrency: int = 8,
    ) -> None:
        if not judges:
            raise ValueError("no judge is named")
        self.place = place
        self.concurrency = concurrency
        show = Shower(place.locate, place.reader, num_frames)
        asked = clients_of(place, {**judges, "self_judge": self_judge}, [*judges, "self_judge"])
        own = asked.pop("self_judge", None)
        self.judging = Judging(asked, show, self_judge=own, rounds=rounds)

    def run(self, samples: Sequence[Sample]) -> Iterator[Built]:
        """What is left of each statement; several are judged at a time."""
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="judge") as pool:
            yield from watched(pool.map(lambda sample: attempt(lambda: self.judging(sample)), samples))
