"""From opinions, or from MOS, to a score with its spread and a distribution over levels."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker.building.parts import Parts
from vqathinker.building.stage import WholeStage, Workplace
from vqathinker.instructions.dimensions import OF_MEASURES
from vqathinker.opinions import ScoreMapping, fit_mapping, level_probabilities
from vqathinker.opinions.levels import MASSES
from vqathinker.samples import SCORE, Sample
from vqathinker.scale import LEVEL_VALUES, SCALE, from_share

MEDIUM = "medium"  # the task of a sample of which nothing is known yet
DIGITS = 6  # of what is written
TOP = 100.0  # of the scale that opinions are mapped to
MEASURES = "measures"
# values of the levels and the ends of their axis: the outer levels at the ends (DeQA-Score), or all in the
# middle of five equal intervals (VITAL)
AXES = {
    "ends": (LEVEL_VALUES, 1.0, 5.0),
    "intervals": (tuple(value - 0.5 for value in LEVEL_VALUES), 0.0, 5.0),
}
Key = tuple[str, str]  # kind of media, name of the opinion


@dataclass
class _Seen:
    """All opinions of the source.

    Attributes:
        values: by kind of media and name, in the order of the samples.
        labels: the score of the same samples, NaN where none is known.
    """

    values: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))


class Level(WholeStage):
    """A score (`target`, 1 to 5), its `spread`, and `levels` for each sample.

    Opinions become scores from 0 to 100 by an annotator's mapping (VITAL, Eq. 6), fitted to the samples that
    have a score (`fit`) or kept from another build (`mappings`); without one, by the range of the annotator's
    scores. Videos and pictures are apart. The score is the opinions' mean, the spread their standard
    deviation (population). A score that a sample has already stays.

    Args:
        place: where it works.
        opinions: names of those that count; all if omitted.
        fit: whether mappings are fitted to the samples with a score.
        mappings: file of mappings that an earlier stage of this kind has written (`mappings.json`).
        axis: "ends" or "intervals": where the levels lie on the scale.
        mass: "interval" or "density", as of `level_probabilities`.
        dimensions: "measures" also makes the column `dimensions` of the ranks of all measures that speak of
            one, whether they count for the score or not.

    Raises:
        ValueError: if an option has another value, or the file of mappings cannot be read.
    """

    def __init__(
        self,
        place: Workplace,
        *,
        opinions: Sequence[str] | None = None,
        fit: bool = False,
        mappings: str | None = None,
        axis: str = "intervals",
        mass: str = "interval",
        dimensions: str | None = None,
    ) -> None:
        for name, value, known in (("axis", axis, tuple(AXES)), ("mass", mass, MASSES)):
            if value not in known:
                raise ValueError(f"{name} {value!r}: choose one of {', '.join(known)}")
        if dimensions not in {None, MEASURES}:
            raise ValueError(f"dimensions {dimensions!r}: {MEASURES!r} is all that can be")
        if fit and mappings:
            raise ValueError("fit makes mappings, and mappings names a file of some: leave one out")
        self.place = place
        self.opinions = opinions
        self.fit = fit
        self.mappings = None if mappings is None else _read_mappings(Path(mappings))
        self.axis = AXES[axis]
        self.mass = mass
        self.has_dimensions = dimensions is not None
        self.notes: dict[str, Any] = {}
        self.left_out: Counter[str] = Counter()

    def run(self, sources: Sequence[Parts]) -> Iterator[Sample]:
        """Each sample that has a score or opinions."""
        (source,) = sources
        seen = self._look(source)
        counted = [key for key in seen.values if self._counts(key[1])]
        to_score = {key: self._scorer(key, seen) for key in counted}
        ranks = {key: np.sort(values) for key, values in seen.values.items() if key[1] in OF_MEASURES}
        for sample in source.samples():
            made = self._leveled(sample, to_score)
            if made is None:
                self.left_out["neither a score nor an opinion is known"] += 1
            else:
                yield self._with_dimensions(made, ranks)

    def _look(self, source: Parts) -> _Seen:
        """First pass: every opinion there is."""
        seen = _Seen()
        for sample in source.samples():
            for name, value in (sample.columns.get("opinions") or {}).items():
                key = (sample.media[0].kind, name)
                seen.values[key].append(value)
                seen.labels[key].append(math.nan if sample.target is None else sample.target)
        return seen

    def _counted(self, sample: Sample) -> dict[str, float]:
        """The opinions that count."""
        found = sample.columns.get("opinions") or {}
        return {name: value for name, value in found.items() if self._counts(name)}

    def _counts(self, name: str) -> bool:
        return self.opinions is None or name in self.opinions

    def _scorer(self, key: Key, seen: _Seen) -> Callable[[float], float]:
        """From an annotator's number to a score from 0 to 100."""
        name = "/".join(key)
        values = np.array(seen.values[key])
        if self.fit or self.mappings is not None:
            mapping = self._mapping(name, values, np.array(seen.labels[key]))
            self.notes.setdefault("mappings", {})[name] = mapping.to_dict()
            return lambda value: float(np.clip(mapping.apply(value), 0, TOP))
        low = float(values.min())
        high = float(values.max())
        self.notes.setdefault("ranges", {})[name] = [low, high]
        return lambda value: TOP * (value - low) / (high - low) if high > low else TOP / 2

    def _mapping(self, name: str, values: np.ndarray, labels: np.ndarray) -> ScoreMapping:
        if self.mappings is not None:
            if name not in self.mappings:
                raise ValueError(f"there is no mapping for {name}, but for {', '.join(self.mappings)}")
            return self.mappings[name]
        has_label = np.isfinite(labels)
        low, high = SCALE
        try:
            return fit_mapping(values[has_label], TOP * (labels[has_label] - low) / (high - low))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _leveled(self, sample: Sample, to_score: dict[Key, Callable[[float], float]]) -> Sample | None:
        """A sample with its score and levels, None where nothing is known."""
        target = sample.target
        spread = sample.spread
        if target is None:
            kind = sample.media[0].kind
            scores = [to_score[kind, name](value) for name, value in self._counted(sample).items()]
            if not scores:
                return None
            low, high = SCALE
            target = from_share(float(np.mean(scores)) / TOP)
            # one opinion tells nothing of how they differ
            spread = float(np.std(scores)) / TOP * (high - low) if len(scores) > 1 else None
        levels = self._levels(target, spread)
        spread = None if spread is None else round(spread, DIGITS)
        task = SCORE if sample.task == MEDIUM else sample.task
        return replace(sample, task=task, target=round(target, DIGITS), spread=spread, levels=levels)

    def _levels(self, target: float, spread: float | None) -> tuple[float, ...]:
        """The distribution, on the axis of the levels."""
        values, low, high = self.axis
        scale_low, scale_high = SCALE
        factor = (high - low) / (scale_high - scale_low)
        mean = low + factor * (target - scale_low)
        std = None if spread is None else factor * spread
        found = level_probabilities(mean, std, values=values, mass=self.mass)
        if np.count_nonzero(found) <= 2:  # the fall-back where a distribution is not known or does not fit
            self.notes["two levels"] = self.notes.get("two levels", 0) + 1
        return tuple(round(float(value), DIGITS) for value in found)

    def _with_dimensions(self, sample: Sample, ranks: dict[Key, np.ndarray]) -> Sample:
        """The share of media that are worse in what a measure speaks of."""
        if not self.has_dimensions:
            return sample
        shares = dict(sample.columns.get("dimensions", {}))
        for name, value in (sample.columns.get("opinions") or {}).items():
            known = ranks.get((sample.media[0].kind, name))
            if known is None:
                continue
            below, upto = (np.searchsorted(known, value, side=side) for side in ("left", "right"))
            shares[OF_MEASURES[name]] = round(float(below + upto) / 2 / len(known), 4)
        return replace(sample, columns={**sample.columns, "dimensions": shares})


def _read_mappings(path: Path) -> dict[str, ScoreMapping]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: ScoreMapping.from_dict(values) for name, values in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"mappings {path}: {error}") from error
