"""The samples of several stages in proportion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vqathinker.building.parts import Parts
from vqathinker.building.stage import WholeStage, Workplace
from vqathinker.opinions.pairs import shared_out
from vqathinker.samples import Sample
from vqathinker.seeds import rng_of


class Mix(WholeStage):
    """Samples drawn from stages so that their numbers are in proportion, in an order that is drawn.

    As many as there can be: the stage that has the least for its share decides. What another has beyond its
    share is left out.

    Args:
        place: where it works.
        parts: stage to its weight, such as its number in the paper.
        total: most samples in all.
        fill: True takes all that there is of each stage, whatever the proportions become.

    Raises:
        ValueError: for a weight that is not positive.
    """

    def __init__(
        self, place: Workplace, *, parts: Mapping[str, float], total: int | None = None, fill: bool = False
    ) -> None:
        if not isinstance(parts, Mapping) or not parts or min(parts.values()) <= 0:
            raise ValueError(f"parts {parts}: expected stages with positive weights")
        self.place = place
        self.weights = dict(parts)
        self.total = total
        self.fill = fill
        self.notes: dict[str, Any] = {}
        self.left_out: Counter[str] = Counter()

    def run(self, sources: Sequence[Parts]) -> Iterator[Sample]:
        """The samples, mixed.

        Raises:
            ValueError: if two stages give samples of one id.
        """
        indices = [source.index() for source in sources]
        numbers = self.numbers([len(index) for index in indices])
        self.notes = {"taken": dict(zip(self.weights, numbers, strict=True))}
        rng = rng_of(self.place.seed, self.place.name)
        chosen = [
            np.stack([np.full(number, stage), rng.permutation(len(index))[:number]], axis=1)
            for stage, (index, number) in enumerate(zip(indices, numbers, strict=True))
        ]
        mixed = rng.permutation(np.concatenate(chosen)).tolist()
        readers = [index.read(_rows_of(mixed, stage)) for stage, index in enumerate(indices)]
        names = list(self.weights)
        seen: dict[int, str] = {}
        for stage, _ in mixed:
            sample = next(readers[stage])
            known = hash(sample.key)
            if seen.setdefault(known, names[stage]) != names[stage]:
                raise ValueError(
                    f"both {seen[known]} and {names[stage]} have a sample {sample.id!r}: mix one"
                )
            yield sample

    def numbers(self, there: Sequence[int]) -> list[int]:
        """How many samples are taken of each stage.

        Raises:
            ValueError: if one has none.
        """
        shares = np.array(list(self.weights.values()), np.float64)
        shares /= shares.sum()
        if self.fill:
            wanted = np.array(there)
        elif not min(there):
            empty = list(self.weights)[there.index(0)]
            raise ValueError(f"{empty!r} has no samples, so none can be mixed in proportion (fill: true can)")
        else:
            possible = min(number / share for number, share in zip(there, shares, strict=True))
            wanted = np.floor(shares * possible + 1e-9).astype(int)
        if self.total is not None and wanted.sum() > self.total:
            wanted = np.minimum(shared_out(self.total, list(self.weights.values())), wanted)
        return [int(number) for number in wanted]


def _rows_of(mixed: Sequence[Sequence[int]], stage: int) -> Iterator[int]:
    """The rows of one stage, in the order in which they are mixed."""
    return (row for other, row in mixed if other == stage)
