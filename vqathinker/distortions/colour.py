"""Colours that spread, move, lose shades, or are too strong or too weak."""

from __future__ import annotations

import math
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vqathinker.distortions.base import Apply, Distortion, Frames, each_frame, to_bytes, to_unit
from vqathinker.distortions.blur import gaussian

EDGE_SIGMA = 4.0  # of the map of edges at which a colour is seen to be moved
LEAST_EDGE = 0.1
CUT = 0.01  # share of a map's values that are cut at either end when it is stretched
# the light that each value of sRGB stands for (IEC 61966-2-1)
UNIT = np.arange(256) / 255
LINEAR = np.where(UNIT <= 0.04045, UNIT / 12.92, ((UNIT + 0.055) / 1.055) ** 2.4).astype(np.float32)
SAMPLES = 256 * 256  # pixels that a palette is made of


class ColorDiffusion(Distortion):
    """In Lab the colour planes are blurred by a Gaussian of σ = 1.5·a + 2 pixels and multiplied by a."""

    levels = (1, 3, 6, 8, 12)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""

        def diffuse(frame: Frames) -> Frames:
            lab = to_lab(frame)
            lab[..., 1:] = gaussian(lab[..., 1:], 1.5 * value + 2) * np.float32(value)
            return from_lab(lab)

        return each_frame(diffuse)


class ColorShift(Distortion):
    """The green plane is moved by so many pixels, in a direction that is drawn, where there are edges.

    The map of edges, which says how much of the moved plane is seen: the gradient's magnitude, blurred
    (σ = 4), stretched to [0, 1], cut to [.1, 1], and stretched again without a hundredth at either end.
    """

    levels = (1, 3, 6, 8, 12)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw the direction: to the right, down, or between."""
        direction = rng.random(2)
        down, right = np.rint(value * direction / np.linalg.norm(direction)).astype(int)
        move = np.array([[1, 0, right], [0, 1, down]], np.float32)

        def shift(frame: Frames) -> Frames:
            green = frame[..., 1].astype(np.float32)
            moved = cv2.warpAffine(
                green, move, size[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
            )
            weight = edges(frame)
            shifted = frame.copy()
            shifted[..., 1] = np.rint(moved * weight + green * (1 - weight))
            return shifted

        return each_frame(shift)


class ColorQuantization(Distortion):
    """So many colours, with the errors spread over the pixels beside; a clip has one palette."""

    levels = (64, 48, 32, 16, 8)

    def draw(self, value: int, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn; the palette is that of the first frames."""
        palettes: list[Image.Image] = []

        def quantize(frames: Frames) -> Frames:
            if not palettes:
                palettes.append(palette(frames, value))
            spread = Image.Dither.FLOYDSTEINBERG
            return each_frame(
                lambda frame: np.asarray(
                    Image.fromarray(frame).quantize(palette=palettes[0], dither=spread).convert("RGB")
                )
            )(frames)

        return quantize


class SaturationHSV(Distortion):
    """The saturation of HSV times a factor; a negative one gives the complementary hue.

    The nearer to 0, and beyond, the further from the source: KADIS-700k's levels are in this order.
    """

    levels = (0.4, 0.2, 0.1, 0.0, -0.4)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""

        def fade(frame: Frames) -> Frames:
            # a channel's distance from the largest one is proportional to the saturation
            largest = frame.max(axis=-1, keepdims=True).astype(np.float32)
            faded = largest - np.float32(value) * (largest - frame)
            return to_bytes(faded / np.float32(255))

        return each_frame(fade)


class SaturationLab(Distortion):
    """The colour planes of Lab times a factor; the first level changes nothing."""

    levels = (1, 2, 3, 6, 9)
    ranks = (0, 2, 3, 4, 5)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""

        def strengthen(frame: Frames) -> Frames:
            lab = to_lab(frame)
            lab[..., 1:] *= np.float32(value)
            return from_lab(lab)

        return (lambda frames: frames.copy()) if value == 1 else each_frame(strengthen)


def to_lab(frame: Frames) -> NDArray[np.float32]:
    """RGB as CIELAB under D65: L from 0 to 100."""
    # from sRGB at once OpenCV interpolates in a coarse table
    linear = cv2.LUT(frame, LINEAR)
    lab: NDArray[np.float32] = cv2.cvtColor(linear, cv2.COLOR_LRGB2LAB)
    return lab


def from_lab(lab: NDArray[np.float32]) -> Frames:
    """CIELAB as RGB; colours that it has none of are cut."""
    return to_bytes(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def edges(frame: Frames) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: where a picture has edges."""
    grey = cv2.cvtColor(to_unit(frame), cv2.COLOR_RGB2GRAY)
    sobel = partial(cv2.Sobel, grey, cv2.CV_32F, ksize=3, borderType=cv2.BORDER_REPLICATE)
    found = gaussian(cv2.magnitude(sobel(1, 0), sobel(0, 1)), EDGE_SIGMA)
    seen = np.clip(_stretched(found, float(found.min()), float(found.max())), LEAST_EDGE, 1)
    low, high = np.quantile(seen, [CUT, 1 - CUT])
    return np.clip(_stretched(seen, float(low), float(high)), 0, 1)


def palette(frames: Frames, number: int) -> Image.Image:
    """A palette of so many colours for a clip, by median cut (KADIS-700k: by least variance)."""
    pixels = frames.reshape(-1, 3)
    chosen = pixels[:: math.ceil(len(pixels) / SAMPLES)]
    return Image.fromarray(chosen[None]).quantize(number, method=Image.Quantize.MEDIANCUT)


def _stretched(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    return (values - np.float32(low)) / np.float32(high - low) if high > low else values
