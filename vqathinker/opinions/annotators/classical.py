"""Classical measures, for a machine without weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.opinions.measures import LESS_IS_BETTER, MEASURES, measure_file


class MeasuresAnnotator:
    """Blur, noise, blockiness, colours, contrast and more, an opinion each; see `opinions.measures`.

    Where less is better the sign is turned, so that more is better throughout.

    Args:
        of: which of `MEASURES`, separated by commas if in one text; all if omitted.
        num_workers: files read at the same time.
        time_limit: seconds for a file.

    Raises:
        ValueError: for an unknown measure.
    """

    def __init__(
        self, of: str | Sequence[str] = tuple(MEASURES), *, num_workers: int = 2, time_limit: float = 120
    ) -> None:
        self.names = tuple(of.split(",") if isinstance(of, str) else of)
        if unknown := [name for name in self.names if name not in MEASURES]:
            raise ValueError(f"there is no measure {unknown[0]!r}, but {', '.join(MEASURES)}")
        self.reader = GuardedReader(num_workers=num_workers, time_limit=time_limit)

    def __call__(self, paths: Sequence[str]) -> dict[str, list[float]]:
        """Each measure of N files, NaN for those that cannot be read."""
        found = list(self.reader.map(measure_file, paths))
        return {
            name: [
                math.nan if isinstance(values, VideoError) else _signed(name, values[name])
                for values in found
            ]
            for name in self.names
        }


def _signed(name: str, value: float) -> float:
    return -value if name in LESS_IS_BETTER else value
