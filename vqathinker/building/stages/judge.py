"""Statements that judges agree to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vqathinker.building.asking import Patience, clients_of, most_at_once
from vqathinker.building.stage import EachStage, Workplace
from vqathinker.instructions import Built, Judging
from vqathinker.instructions.judging import ROUNDS
from vqathinker.instructions.showing import NUM_FRAMES, Shower
from vqathinker.samples import Sample


class Judge(EachStage):
    """Keeps, corrects or discards statements; see `instructions.judging`.

    Args:
        place: where it works.
        judges: language models (`Workplace.client`), by name.
        self_judge: the model that wrote the statements; not asked if omitted.
        rounds: of each.
        num_frames: of a video that is shown.
        concurrency: statements that are judged at the same time; as many as a judge takes questions if
            omitted.

    Raises:
        ValueError: if there is no judge, or no such argument of a model.
    """

    def __init__(
        self,
        place: Workplace,
        *,
        judges: dict[str, object],
        self_judge: object = None,
        rounds: int = ROUNDS,
        num_frames: int = NUM_FRAMES,
        concurrency: int | None = None,
    ) -> None:
        if not judges:
            raise ValueError("no judge is named")
        self.place = place
        show = Shower(place.locate, place.reader, num_frames)
        asked = clients_of(place, {**judges, "self_judge": self_judge}, [*judges, "self_judge"])
        self.clients = list(asked.values())
        self.patience = Patience(most_at_once(asked, concurrency))
        own = asked.pop("self_judge", None)
        self.judging = Judging(asked, show, self_judge=own, rounds=rounds)

    def run(self, samples: Sequence[Sample]) -> Iterator[Built]:
        """What is left of each statement; several are judged at a time."""
        return self.patience.map(self.judging, samples)
