"""A distortion inside a box and a span of time alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vqathinker.distortions.base import Apply, Distortion, Frames

SHARE = 0.5  # of either side: a box of a quarter of the picture
SHORTEST = 1  # seconds
LONGEST = 3


@dataclass(frozen=True)
class Place:
    """Where and when.

    Attributes:
        top: first row.
        left: first column.
        height: rows.
        width: columns.
        start: first frame.
        stop: the one after the last.
    """

    top: int
    left: int
    height: int
    width: int
    start: int
    stop: int


def distort_locally(
    frames: Frames, distortion: Distortion, level: int, place: Place, rng: np.random.Generator
) -> Frames:
    """Distort a part of a clip; the rest stays to the byte (OmniVQA, the in-context branch).

    Args:
        frames: (T, H, W, 3) RGB.
        distortion: what happens inside.
        level: of it.
        place: a box within the frames and a span within the clip.
        rng: draws what is drawn.

    Raises:
        ValueError: if the place is none in this clip.
    """
    if not 0 <= place.start < place.stop <= len(frames):
        raise ValueError(f"{place} does not lie in a clip of {len(frames)} frames")
    height, width = frames.shape[1:3]
    return begin_locally(distortion, level, place, (height, width), rng)(frames)


def begin_locally(
    distortion: Distortion, level: int, place: Place, size: tuple[int, int], rng: np.random.Generator
) -> Apply:
    """As `Distortion.begin`, for a part of the clip; the parts that the function gets follow one another.

    Raises:
        ValueError: if the box does not lie within the frames.
    """
    height, width = size
    fits_down = place.top >= 0 and place.height > 0 and place.top + place.height <= height
    fits_across = place.left >= 0 and place.width > 0 and place.left + place.width <= width
    if not (fits_down and fits_across):
        raise ValueError(f"{place} does not lie in frames of {width} × {height}")
    apply = distortion.begin(level, (place.height, place.width), rng)
    rows = slice(place.top, place.top + place.height)
    columns = slice(place.left, place.left + place.width)
    num_seen = 0

    def change(frames: Frames) -> Frames:
        nonlocal num_seen
        start, stop = (min(max(bound - num_seen, 0), len(frames)) for bound in (place.start, place.stop))
        num_seen += len(frames)
        if start == stop:
            return frames
        changed = frames.copy()
        span = slice(start, stop)
        changed[span, rows, columns] = apply(np.ascontiguousarray(frames[span, rows, columns]))
        return changed

    return change


@dataclass(frozen=True)
class Spot:
    """A place in a medium whose size is not known yet.

    Attributes:
        top: first row, as a share of the height.
        left: first column, as a share of the width.
        start: first second.
        seconds: how long.
    """

    top: float
    left: float
    start: int
    seconds: int

    @classmethod
    def draw(cls, rng: np.random.Generator, seconds: float) -> Spot:
        """A quarter of the picture, and 1 to 3 seconds from a whole one on (OmniVQA).

        Args:
            rng: draws it.
            seconds: length of the video; 0 for a picture.
        """
        top, left = (1 - SHARE) * rng.random(2)
        length = min(int(rng.integers(SHORTEST, LONGEST + 1)), max(int(seconds), SHORTEST))
        start = int(rng.integers(max(int(seconds) - length, 0) + 1))
        return cls(float(top), float(left), start, length)

    def place(self, size: tuple[int, int], seconds: np.ndarray) -> Place:
        """The place in frames of a size that are shown at these seconds; all of a picture's one frame."""
        height, width = size
        start, stop = np.searchsorted(seconds, [self.start, self.start + self.seconds]).tolist()
        if len(seconds) == 1:
            start = 0
            stop = 1
        return Place(
            round(self.top * height),
            round(self.left * width),
            max(round(SHARE * height) - 1, 1),
            max(round(SHARE * width) - 1, 1),
            start,
            max(stop, start + 1),
        )

    def where(self) -> str:
        """The place in words: the quarter that its middle lies in."""
        row = "lower" if self.top + SHARE / 2 >= SHARE else "upper"
        column = "right" if self.left + SHARE / 2 >= SHARE else "left"
        return f"in the {row} {column}"

    def when(self) -> str:
        """The time in words."""
        return f"from second {self.start} to second {self.start + self.seconds}"
