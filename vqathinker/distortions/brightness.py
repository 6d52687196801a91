"""Light: too much, too little, shifted; contrast and sharpness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from vqathinker.distortions.base import (
    Apply,
    Distortion,
    Frames,
    by_value,
    each_frame,
    to_bytes,
    to_unit,
)
from vqathinker.distortions.blur import gaussian
from vqathinker.distortions.colour import from_lab, to_lab

SHARPENING_SIGMA = 3.0  # pixels


class Brighten(Distortion):
    """A parabola lifts the middle by a/2: two thirds in RGB, one third in the lightness of Lab."""

    levels = (0.1, 0.2, 0.4, 0.7, 1.1)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""
        curve = parabola(0.5 + value / 2)
        lifted = by_value(curve)

        def brighten(frame: Frames) -> Frames:
            lab = to_lab(frame)
            lab[..., 0] = 100 * curve(lab[..., 0] / 100)
            by_light = np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1)
            return to_bytes((2 * to_unit(lifted(frame[None])[0]) + by_light) / 3)

        return each_frame(brighten)


class Darken(Distortion):
    """A parabola lowers the middle by a/2."""

    levels = (0.05, 0.1, 0.2, 0.4, 0.8)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""
        return by_value(parabola(0.5 - value / 2))


class MeanShift(Distortion):
    """A number is added. Levels from bright to dark: the one in the middle changes nothing."""

    levels = (0.15, 0.08, 0.0, -0.08, -0.15)
    ranks = (4, 2, 0, 2, 4)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""
        return by_value(lambda values: values + value)


class Contrast(Distortion):
    """A curve through (.3, .25 − a/4), (.5, .5) and (.7, .75 + a/4). Levels from too much to too little.

    a = −.2 would change nothing; what is farther from it damages more.
    """

    levels = (0.3, 0.15, 0.0, -0.4, -0.6)
    ranks = (5, 3, 1, 1, 4)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""
        inner = [0.25 - value / 4, 0.5, 0.75 + value / 4]
        return by_value(CubicSpline([0, 0.3, 0.5, 0.7, 1], [0, *inner, 1]))


class Sharpen(Distortion):
    """Unsharp masking of the lightness of Lab, by such an amount (σ = 3 pixels)."""

    levels = (1, 2, 3, 6, 12)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""

        def sharpen(frame: Frames) -> Frames:
            lab = to_lab(frame)
            light = lab[..., 0]
            lab[..., 0] = light + np.float32(value) * (light - gaussian(light, SHARPENING_SIGMA))
            lab[..., 0] = np.clip(lab[..., 0], 0, 100)
            return from_lab(lab)

        return each_frame(sharpen)


def parabola(middle: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The parabola through (0, 0), (.5, middle) and (1, 1), cut to [0, 1].

    >>> parabola(0.1)(np.array([0.3, 0.5, 1.0])).round(3).tolist()
    [0.0, 0.1, 1.0]
    """
    square = 2 - 4 * middle
    linear = 4 * middle - 1

    def curve(values: NDArray[Any]) -> NDArray[Any]:
        return np.clip(square * values**2 + linear * values, 0, 1)

    return curve
