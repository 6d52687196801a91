"""Media that can be read, and that are long and large enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vqathinker.building.stage import EachStage, Workplace
from vqathinker.instructions import Built
from vqathinker.instructions.base import unreadable
from vqathinker.media.container import VideoError
from vqathinker.media.medium import Look, look_at
from vqathinker.samples import Sample

LANDSCAPE_4K = (4096, 2160)


class Select(EachStage):
    """Leaves out what cannot be read, and what is too short, too long, too small or too large.

    The size of what is kept goes to the columns `width`, `height` and, of videos, `seconds`. By default as
    VITAL chose its pool (arXiv 2511.17962, section 3.1): 1 to 20 s, 360 × 480 to 4K in either orientation.

    Args:
        place: where it works.
        seconds: shortest and longest video; None takes any.
        smallest: shorter and longer side; None takes any.
        largest: likewise.
    """

    def __init__(
        self,
        place: Workplace,
        *,
        seconds: Sequence[float] | None = (1, 20),
        smallest: Sequence[int] | None = (360, 480),
        largest: Sequence[int] | None = LANDSCAPE_4K,
    ) -> None:
        self.place = place
        self.seconds = seconds
        self.smallest = None if smallest is None else sorted(smallest)
        self.largest = None if largest is None else sorted(largest)

    def run(self, samples: Sequence[Sample]) -> Iterator[Built]:
        """Each sample with the size of its medium, or why it is left out."""
        paths = [self.place.locate(sample.media[0]) for sample in samples]
        for sample, look in zip(samples, self.place.reader.map(look_at, paths), strict=True):
            if isinstance(look, VideoError):
                yield Built([], [unreadable(look)])
            elif reason := self._unfit(look):
                yield Built.rejected(reason, f"{look.width} × {look.height}, {look.seconds:g} s")
            else:
                told: dict[str, float] = {"width": look.width, "height": look.height}
                if look.seconds:
                    told["seconds"] = look.seconds
                yield Built([replace(sample, columns={**sample.columns, **told})])

    def _unfit(self, look: Look) -> str:
        """Why a medium is left out, empty if it is not."""
        shorter, longer = sorted((look.width, look.height))
        if self.smallest is not None and (shorter < self.smallest[0] or longer < self.smallest[1]):
            return "too small"
        if self.largest is not None and (shorter > self.largest[0] or longer > self.largest[1]):
            return "too large"
        if self.seconds is None or not look.seconds:  # pictures have no length
            return ""
        shortest, longest = self.seconds
        if look.seconds < shortest:
            return "too short"
        return "too long" if look.seconds > longest else ""
