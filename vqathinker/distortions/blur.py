"""Blur by a Gaussian, by a lens out of focus, by motion."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vqathinker.distortions.base import Apply, Distortion, each_frame

SUBPIXELS = 64  # per side, to tell how much of a pixel lies in a disk


class GaussianBlur(Distortion):
    """σ in pixels; the kernel has 2·⌈2σ⌉+1 of them, edges are replicated. The first level changes nothing."""

    levels = (0.1, 0.5, 1.0, 2.0, 5.0)
    ranks = (0, 2, 3, 4, 5)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""
        return each_frame(partial(gaussian, sigma=value))


class LensBlur(Distortion):
    """The mean over a disk of so many pixels' radius; edges are replicated."""

    levels = (1, 2, 4, 6, 8)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""
        return _filtered(disk(value))


class MotionBlur(Distortion):
    """The mean over a line of so many pixels, at an angle of a whole number of degrees that is drawn.

    A line of one pixel, the first level, changes nothing. Edges are replicated.
    """

    levels = (1, 2, 4, 6, 10)
    ranks = (0, 2, 3, 4, 5)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw the angle."""
        return _filtered(line(value, math.radians(int(rng.integers(0, 181)))))


def gaussian(frame: NDArray[Any], sigma: float) -> NDArray[Any]:
    """A picture, or a plane of it, blurred by a kernel of 2·⌈2σ⌉+1 pixels."""
    side = 2 * math.ceil(2 * sigma) + 1
    blurred: NDArray[Any] = cv2.GaussianBlur(frame, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    return blurred


def disk(radius: float) -> NDArray[np.float64]:
    """A (2r+1, 2r+1) kernel: which share of each pixel lies within the radius; its sum is 1.

    >>> disk(1).round(2).tolist()
    [[0.03, 0.15, 0.03], [0.15, 0.32, 0.15], [0.03, 0.15, 0.03]]
    """
    reach = math.ceil(radius)
    fine = (np.arange((2 * reach + 1) * SUBPIXELS) + 0.5) / SUBPIXELS - reach - 0.5
    is_inside = np.hypot(fine[:, None], fine[None]) <= radius
    shares = is_inside.reshape(2 * reach + 1, SUBPIXELS, 2 * reach + 1, SUBPIXELS).mean(axis=(1, 3))
    kernel: NDArray[np.float64] = shares / shares.sum()
    return kernel


def line(length: float, angle: float) -> NDArray[np.float64]:
    """A kernel of a line through the centre: 1 minus the distance from it, where that is above 0; sum 1.

    Args:
        length: in pixels, those at both ends included.
        angle: in radians, against the clock from the right.

    >>> line(3, 0.0).round(2).tolist()
    [[0.33, 0.33, 0.33]]
    """
    half = (length - 1) / 2
    reach = math.ceil(half)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    cosine = math.cos(angle)
    sine = -math.sin(angle)  # rows count downward
    along = np.clip(right * cosine + down * sine, -half, half)
    distance = np.hypot(right - along * cosine, down - along * sine)
    weights = np.maximum(0, 1 - distance)
    weights[weights < 1e-9] = 0
    rows = weights.any(axis=1)
    columns = weights.any(axis=0)
    # the centre stays in the middle: the line is symmetric
    kernel: NDArray[np.float64] = weights[rows][:, columns] / weights.sum()
    return kernel


def _filtered(kernel: NDArray[np.float64]) -> Apply:
    return each_frame(lambda frame: cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REPLICATE))
