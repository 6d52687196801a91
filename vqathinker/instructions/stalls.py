"""When a streamed video stands still, in the two forms of VQA² (arXiv 2411.03795, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vqathinker.instructions.wording import (
    NO_STALL,
    SINCE_STALL,
    STALL_LENGTHS,
    STALL_SEQUENCE,
    STALL_SUMMARY,
)


@dataclass(frozen=True)
class Stalls:
    """The stalls of a video.

    Attributes:
        events: start and length of each, in seconds of the video as it is shown, stalls included.
        initial: seconds before the first frame.
        seconds: length of the video as it is shown.
        fps: frames per second.
    """

    events: tuple[tuple[float, float], ...]
    initial: float
    seconds: float
    fps: float

    @classmethod
    def from_columns(cls, columns: Any) -> Stalls:  # noqa: ANN401  whatever a file holds
        """Read the columns `stalls` (pairs of start and length), `seconds`, `fps`, `initial_buffering`.

        A stall at the very start counts as initial buffering, where nothing is said about that.

        Raises:
            ValueError: naming the column that is missing or cannot be right.
        """
        for name in ("stalls", "seconds", "fps"):
            if name not in columns:
                raise ValueError(f"no column {name!r}")
        try:
            events = tuple(sorted((float(start), float(length)) for start, length in columns["stalls"]))
            seconds = float(columns["seconds"])
            fps = float(columns["fps"])
            initial = float(columns.get("initial_buffering", 0))
        except (TypeError, ValueError) as error:
            raise ValueError(f"stalls {columns['stalls']!r}: expected pairs of start and length") from error
        if not (seconds > 0 and fps > 0):
            raise ValueError(f"a video of {seconds:g} s at {fps:g} frames a second")
        end = 0.0
        for start, length in events:
            if start < end or length <= 0 or start + length > seconds + 1 / fps:
                raise ValueError(f"the stall of {length:g} s at {start:g} s does not fit into the video")
            end = start + length
        if "initial_buffering" not in columns and events and events[0][0] == 0:
            initial = events[0][1]
        return cls(events, initial, seconds, fps)

    @property
    def during_playback(self) -> tuple[tuple[float, float], ...]:
        """Those after the start."""
        return tuple(event for event in self.events if event[0] > 0)

    def marks(self) -> str:
        """A 0 or 1 for each frame: 1 while the video stands still."""
        marks = []
        for frame in range(round(self.seconds * self.fps)):
            middle = (frame + 0.5) / self.fps
            marks.append(
                "1" if any(start <= middle < start + length for start, length in self.events) else "0"
            )
        return "".join(marks)

    def sequence(self) -> str:
        """The first form: every frame."""
        return STALL_SEQUENCE.format(sequence=self.marks())

    def summary(self) -> str:
        """The second form: number, lengths, share, initial buffering, and how long ago the last one was."""
        lengths = [f"{length:g} s" for _, length in self.during_playback]
        total = math.fsum(length for _, length in self.events)
        return STALL_SUMMARY.format(
            initial=self.initial,
            number=len(lengths),
            lengths=STALL_LENGTHS.format(seconds=_joined(lengths)) if lengths else "",
            share=total / self.seconds,
            total=self.seconds,
            since=self._since(),
        )

    def _since(self) -> str:
        if not self.during_playback:
            return NO_STALL
        start, length = self.during_playback[-1]
        return SINCE_STALL.format(seconds=max(self.seconds - start - length, 0))


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
