"""Distorted copies of media."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any, cast

import numpy as np

from vqathinker import plugins
from vqathinker.atomic import remove_leftovers
from vqathinker.building.stage import EachStage, Workplace
from vqathinker.distortions import DISTORTIONS, GROUP, Distortion
from vqathinker.distortions.copies import Fault, suffix_of, write_copy
from vqathinker.distortions.local import Spot
from vqathinker.instructions import Built, Rejection
from vqathinker.instructions.base import unreadable
from vqathinker.media.container import VideoError
from vqathinker.samples import IMAGE, VIDEO, Media, Sample

# columns that a distortion makes untrue
OF_QUALITY = frozenset({"opinions", "dimensions", "depiction", "local_depiction", "mos", "std"})
ALL = "all"
SPATIAL = "spatial"
TEMPORAL = "temporal"


@dataclass(frozen=True)
class Treatment:
    """A distortion at a level.

    Attributes:
        label: name of the distortion.
        item: what it is built from.
        level: of it.
        severity: of the level, in words.
        spot: where and when; everywhere if omitted.
    """

    label: str
    item: object
    level: int
    severity: str
    spot: Spot | None = None


class Distort(EachStage):
    """Every named kind at every named level; of what is not named, one is drawn for each medium.

    A copy is a sample with the columns `distortion`, `level` and `severity`; one that is there already is not
    rendered again. VITAL (arXiv 2511.17962, section 3.1) draws one kind and level for each medium.

    Args:
        place: where it works.
        kinds: keys of `DISTORTIONS`, dotted paths, or objects of a name with arguments; "all", or "spatial"
            or "temporal" for those of one sort. Drawn from all that suit the medium if omitted.
        draw_from: the kinds to draw from, where none is named.
        levels: numbers from 1, or "all"; drawn from those that change something if omitted.
        number: how many kinds are drawn for each medium, where none is named.
        media: "video" or "image", where only those are to be distorted.
        local: whether only a quarter of the picture is distorted, of a video for 1 to 3 s, each drawn
            (OmniVQA). The columns `place` and `time` say where and when.

    Raises:
        ValueError: for an unknown kind or a level that a named kind does not have.
    """

    def __init__(
        self,
        place: Workplace,
        *,
        kinds: object = None,
        draw_from: object = ALL,
        levels: Sequence[int] | str | None = None,
        number: int = 1,
        media: str | None = None,
        local: bool = False,
    ) -> None:
        self.place = place
        self.is_drawn = kinds is None
        self.kinds = _build(draw_from if kinds is None else kinds)
        self.levels = levels if levels is None or isinstance(levels, str) else tuple(dict.fromkeys(levels))
        self.number = number
        self.media = media
        self.local = local
        if media not in {None, VIDEO, IMAGE}:
            raise ValueError(f"media {media!r}: choose {VIDEO} or {IMAGE}")
        if isinstance(levels, str) and levels != ALL:
            raise ValueError(f"levels {levels!r}: expected numbers from 1, or {ALL!r}")
        for distortion, _ in self.kinds.values():
            for level in () if levels is None or isinstance(levels, str) or self.is_drawn else levels:
                distortion.severity(level)

    def run(self, samples: Sequence[Sample]) -> Iterator[Built]:
        """The copies of each sample's medium."""
        # all of a part are handed over at once, so that no process waits for the next medium
        treatments = [[] if self._is_left_out(sample) else self.treatments(sample) for sample in samples]
        jobs = [
            (self._job(sample, one), self.place.locate(sample.media[0]))
            for sample, chosen in zip(samples, treatments, strict=True)
            for one in chosen
        ]
        found = self.place.reader.run(jobs)
        is_done = False
        try:
            yield from self._collected(samples, treatments, found)
            is_done = True
        finally:
            found.close()  # type: ignore[attr-defined]  # ends what is still rendered
            if not is_done:
                for sample, chosen in zip(samples, treatments, strict=True):
                    for one in chosen:
                        remove_leftovers(self._out(sample, one))

    def _collected(
        self,
        samples: Sequence[Sample],
        treatments: Sequence[Sequence[Treatment]],
        found: Iterator[Fault | VideoError | None],
    ) -> Iterator[Built]:
        """What became of each sample, as its copies are rendered."""
        for sample, chosen in zip(samples, treatments, strict=True):
            built = Built()
            for one in chosen:
                answer = next(found)
                if isinstance(answer, VideoError):
                    built.rejections.append(unreadable(answer))
                elif answer is None:
                    built.samples.append(self._sample(sample, one))
                elif answer.is_of_disk:
                    raise OSError(answer.reason)
                else:
                    built.rejections.append(Rejection("the distortion does not suit it", answer.reason))
            if self._has_no_length(sample):
                built.rejections.append(Rejection("its length is not known: select tells it"))
            elif not chosen and not self._is_left_out(sample):
                built.rejections.append(Rejection("no distortion suits it"))
            yield built

    def treatments(self, sample: Sample) -> list[Treatment]:
        """What happens to a sample's medium, drawn for it alone."""
        is_image = sample.media[0].kind == IMAGE
        suited = [label for label, (kind, _) in self.kinds.items() if not (is_image and kind.needs_time)]
        rng = self.place.rng(sample)
        if isinstance(self.levels, tuple):
            suited = [label for label in suited if self._levels_of(self.kinds[label][0], 0)]
        if self.is_drawn:
            suited = rng.permutation(suited)[: self.number].tolist()
        chosen = []
        for label in suited:
            distortion, item = self.kinds[label]
            chosen += [
                Treatment(label, item, level, distortion.severity(level), self._spot(sample, rng))
                for level in self._levels_of(distortion, int(rng.integers(2**32)))
            ]
        return chosen

    def _spot(self, sample: Sample, rng: np.random.Generator) -> Spot | None:
        """A quarter of the picture and some seconds, if the distortion is to be local."""
        if not self.local:
            return None
        return Spot.draw(rng, float(sample.columns.get("seconds", 0)))

    def _is_left_out(self, sample: Sample) -> bool:
        is_other = self.media is not None and sample.media[0].kind != self.media
        return is_other or self._has_no_length(sample)

    def _has_no_length(self, sample: Sample) -> bool:
        """Whether it cannot be said when a video could be distorted locally."""
        return self.local and sample.media[0].kind == VIDEO and "seconds" not in sample.columns

    def _levels_of(self, distortion: Distortion, drawn: int) -> Sequence[int]:
        if self.levels is None:
            levels = distortion.drawn_levels
            return [levels[drawn % len(levels)]]
        if isinstance(self.levels, str):
            return range(1, distortion.num_levels + 1)
        return [level for level in self.levels if level <= distortion.num_levels]

    def _job(self, sample: Sample, one: Treatment) -> Callable[[str], Fault | None]:
        """What renders a copy, in another process."""
        seed = (self.place.seed, self.place.name, *sample.key, one.label, one.level)
        out = str(self._out(sample, one))
        # a copy that is older than these settings has pixels of others
        since = os.path.getmtime(self.place.settings)
        return partial(
            write_copy, out=out, item=one.item, level=one.level, seed=seed, spot=one.spot, since=since
        )

    def _out(self, sample: Sample, one: Treatment) -> Path:
        """Where a copy goes: in folders as the sources are, named by what happened."""
        parts = [part for part in PurePath(sample.id).parts if part not in {os.pardir, os.sep}]
        if self.place.by_dataset:  # two of them may have one id
            parts.insert(0, sample.dataset or "media")
        name = f"{parts[-1]}_{one.label}_{one.level}{suffix_of(sample.media[0].path)}"
        return self.place.media.joinpath(*parts[:-1], name)

    def _sample(self, sample: Sample, one: Treatment) -> Sample:
        told: dict[str, Any] = {
            "distortion": one.label,
            "level": one.level,
            "severity": one.severity,
            "source": sample.id,
        }
        if one.spot is not None:
            told["place"] = one.spot.where()
        if one.spot is not None and sample.media[0].kind == VIDEO:
            told["time"] = one.spot.when()
        kept = {name: value for name, value in sample.columns.items() if name not in OF_QUALITY}
        path = os.path.relpath(self._out(sample, one), self.place.root)
        return Sample(
            id=f"{sample.id}_{one.label}_{one.level}",
            dataset=sample.dataset,
            media=(Media(path),),
            task="recognition",
            columns={**kept, **told},
        )


def _build(kinds: object) -> dict[str, tuple[Distortion, object]]:
    """Distortions by their labels, each with what it was built from."""
    given = list(kinds) if isinstance(kinds, list | tuple) else [kinds]
    items = [name for item in given for name in (names_of(item) if isinstance(item, str) else [item])]
    built = plugins.build(items, DISTORTIONS, group=GROUP)
    return {
        one.label: (cast(Distortion, one.function), _without_label(item))
        for one, item in zip(built, items, strict=True)
    }


def names_of(kind: str) -> list[str]:
    """The kinds that a word stands for: itself, or all of a sort."""
    if kind not in {ALL, SPATIAL, TEMPORAL}:
        return [kind]
    return [
        key
        for key, made in DISTORTIONS.items()
        if kind == ALL or cast(type[Distortion], made).needs_time == (kind == TEMPORAL)
    ]


def _without_label(item: object) -> object:
    return {key: value for key, value in item.items() if key != "as"} if isinstance(item, Mapping) else item
