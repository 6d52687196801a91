"""What annotators think of media."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vqathinker.building.stage import EachStage, Workplace
from vqathinker.instructions import Built
from vqathinker.opinions.annotators import build_annotator
from vqathinker.samples import Sample


class Annotate(EachStage):
    """The scores of annotators, in the column `opinions`, by name; more is better.

    Args:
        place: where it works.
        annotators: names or objects, as `opinions.annotators.build_annotator` takes them.
        num_gpus: that they need together, for a cluster to find a machine with.

    Raises:
        ValueError: for an unknown annotator, or two of one label.
    """

    def __init__(self, place: Workplace, *, annotators: Sequence[object], num_gpus: float = 0) -> None:
        self.place = place
        self.annotators = dict(map(build_annotator, annotators))
        if len(self.annotators) < len(annotators):
            raise ValueError("two annotators have one label: tell them apart with 'as'")
        for annotator in self.annotators.values():
            if hasattr(annotator, "reader"):  # those that read files do it as all stages do
                annotator.reader = place.reader

    def run(self, samples: Sequence[Sample]) -> Iterator[Built]:
        """Each sample with its opinions, those that it had before among them."""
        paths = [self.place.locate(sample.media[0]) for sample in samples]
        scores: dict[str, np.ndarray] = {}
        for label, annotator in self.annotators.items():
            found = annotator(paths)
            named = found if isinstance(found, Mapping) else {label: found}
            for name, values in named.items():
                given = np.asarray(values, np.float64)
                if given.shape != (len(paths),):
                    raise ValueError(f"annotator {label!r}: {given.shape} scores for {len(paths)} media")
                scores[name] = given
        for row, sample in enumerate(samples):
            opinions = dict(sample.columns.get("opinions", {}))
            opinions |= {
                name: float(values[row]) for name, values in scores.items() if math.isfinite(values[row])
            }
            if not opinions:
                yield Built.rejected("no annotator has a score for it")
            else:
                yield Built([replace(sample, columns={**sample.columns, "opinions": opinions})])
