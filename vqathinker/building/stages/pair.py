"""Pairs of media."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from vqathinker.building.parts import Parts
from vqathinker.building.stage import WholeStage, Workplace
from vqathinker.opinions import draw_pairs
from vqathinker.opinions.pairs import RATIO
from vqathinker.samples import Sample
from vqathinker.scale import ALIKE, BETTER, WORSE
from vqathinker.seeds import rng_of

PAIRS_PER_MEDIUM = 0.5  # VITAL: 500,000 pairs of 1,000,000 media


class MakePairs(WholeStage):
    """Pairs within a data set and a kind of media, better : worse : alike in a ratio (VITAL, Eq. 3).

    A pair keeps what is known of both in the columns `first` and `second`.

    Args:
        place: where it works.
        share: pairs for each medium.
        ratio: of better, worse and alike.
        strict: whether the ratio is kept where a kind is rare, which then gives fewer pairs.
    """

    def __init__(
        self,
        place: Workplace,
        *,
        share: float = PAIRS_PER_MEDIUM,
        ratio: Sequence[float] = RATIO,
        strict: bool = True,
    ) -> None:
        if len(ratio) != len(RATIO) or min(ratio) < 0 or not sum(ratio):
            raise ValueError(f"ratio {list(ratio)}: expected three numbers, of better, worse and alike")
        self.place = place
        self.share = share
        self.strict = strict
        self.ratio = (ratio[0], ratio[1], ratio[2])
        self.notes: dict[str, Any] = {}
        self.left_out: Counter[str] = Counter()

    def run(self, sources: Sequence[Parts]) -> Iterator[Sample]:
        """The pairs, in the order in which they were drawn."""
        (source,) = sources
        # numbers of all media are held, the media themselves are read again when they are drawn
        means = []
        stds = []
        groups = []
        rows = []
        for row, sample in enumerate(source.samples()):
            if sample.target is None:
                self.left_out["no score is known"] += 1
                continue
            means.append(sample.target)
            stds.append(sample.spread or 0.0)
            groups.append((sample.dataset, sample.media[0].kind))
            rows.append(row)
        rng = rng_of(self.place.seed, self.place.name)
        number = round(self.share * len(means))
        pairs = draw_pairs(means, stds, groups, number, rng, ratio=self.ratio, strict=self.strict)
        counts = {name: sum(pair.preference == kind for pair in pairs) for name, kind in KINDS.items()}
        self.notes = {"pairs": counts}
        index = source.index()
        for pair in pairs:
            first, second = index.read([rows[pair.first], rows[pair.second]])
            yield Sample(
                id=f"{first.id}|{second.id}",
                dataset=first.dataset,
                media=(*first.media, *second.media),
                task="pair",
                question="",
                preference=pair.preference,
                columns={"first": _known(first), "second": _known(second)},
            )


KINDS = {"better": BETTER, "worse": WORSE, "alike": ALIKE}


def _known(sample: Sample) -> dict[str, Any]:
    levels = None if sample.levels is None else list(sample.levels)
    return {"target": sample.target, "spread": sample.spread, "levels": levels}
