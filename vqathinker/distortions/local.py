"""A distortion inside a box and a span of time alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vqathinker.distortions.base import Distortion, Frames


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
    length, height, width = frames.shape[:3]
    fits_in_space = place.top >= 0 and place.left >= 0 and place.height > 0 and place.width > 0
    fits_in_space &= place.top + place.height <= height and place.left + place.width <= width
    if not (fits_in_space and 0 <= place.start < place.stop <= length):
        raise ValueError(f"{place} does not lie in a clip of {length} frames of {width} × {height}")
    changed = frames.copy()
    rows = slice(place.top, place.top + place.height)
    columns = slice(place.left, place.left + place.width)
    span = slice(place.start, place.stop)
    changed[span, rows, columns] = distortion(np.ascontiguousarray(frames[span, rows, columns]), level, rng)
    return changed
