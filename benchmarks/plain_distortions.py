"""The 25 distortions of space in their plainest form: one frame at a time, NumPy, SciPy and scikit-image.

What `bench_data_engine.py` compares with. A function takes a frame (H, W, 3) in [0, 1], the parameter of the
level and a generator. The same arithmetic, not the same bits; noise is drawn once for all frames, as ours is.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.interpolate import CubicSpline
from skimage import color, filters, restoration, transform, util

from vqathinker.distortions.blur import disk, line
from vqathinker.distortions.spatial import otsu

Frame = NDArray[np.float64]
Plain = Callable[[Frame, Any, np.random.Generator], Frame]


@cache
def normal(shape: tuple[int, ...], number: int = 0) -> Frame:
    """Standard normal numbers, drawn once."""
    return np.random.default_rng(number).standard_normal(shape)


@cache
def uniform(shape: tuple[int, ...]) -> Frame:
    """Numbers from 0 to 1, drawn once."""
    return np.random.default_rng(0).random(shape)


def filtered(frame: Frame, kernel: Frame) -> Frame:
    """Every channel by a kernel."""
    return np.stack([ndimage.convolve(frame[..., c], kernel, mode="nearest") for c in range(3)], axis=-1)


def blurred(plane: Frame, sigma: float) -> Frame:
    """A plane by a Gaussian."""
    return filters.gaussian(plane, sigma, mode="nearest", truncate=2)


def in_lab(frame: Frame, change: Callable[[Frame], Frame]) -> Frame:
    """A change in Lab."""
    return np.clip(color.lab2rgb(change(color.rgb2lab(frame))), 0, 1)


def color_diffusion(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """Blurred colour planes."""

    def diffuse(lab: Frame) -> Frame:
        planes = [lab[..., 0], *(value * blurred(lab[..., c], 1.5 * value + 2) for c in (1, 2))]
        return np.stack(planes, axis=-1)

    return in_lab(frame, diffuse)


def color_shift(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """A moved green plane at edges."""
    direction = rng.random(2)
    move = np.rint(value * direction / np.linalg.norm(direction))
    edges = np.clip(blurred(filters.sobel(color.rgb2gray(frame)), 4), 0.1, 1)
    moved = ndimage.shift(frame[..., 1], move, order=0, mode="nearest")
    shifted = frame.copy()
    shifted[..., 1] = moved * edges + frame[..., 1] * (1 - edges)
    return shifted


def color_quantization(frame: Frame, value: int, rng: np.random.Generator) -> Frame:
    """A palette for each frame."""
    picture = Image.fromarray(util.img_as_ubyte(frame))
    palette = picture.quantize(value, method=Image.Quantize.MEDIANCUT)
    return np.asarray(picture.quantize(palette=palette).convert("RGB")) / 255


def saturation_hsv(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """Saturation of HSV."""
    hsv = color.rgb2hsv(frame)
    hsv[..., 1] *= value
    return np.clip(color.hsv2rgb(hsv), 0, 1)


def saturation_lab(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """Colour planes of Lab."""
    return in_lab(frame, lambda lab: lab * [1, value, value])


def through_file(frame: Frame, form: str, **options: object) -> Frame:
    """A file in memory."""
    content = io.BytesIO()
    Image.fromarray(util.img_as_ubyte(frame)).save(content, form, **options)
    return np.asarray(Image.open(content)) / 255


def color_noise(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """Noise in YCbCr."""
    planes = color.rgb2ycbcr(frame) + 255 * np.sqrt(value) * normal(frame.shape)
    return np.clip(color.ycbcr2rgb(planes), 0, 1)


def denoise(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """Noise, and non-local means."""
    noisy = np.clip(frame + np.sqrt(value) * normal(frame.shape), 0, 1)
    options = {"patch_size": 7, "patch_distance": 10, "h": 0.8 * np.sqrt(value), "fast_mode": True}
    return np.stack([restoration.denoise_nl_means(noisy[..., c], **options) for c in range(3)], axis=-1)


def curved(frame: Frame, points: dict[float, float]) -> Frame:
    """A spline over values."""
    return np.clip(CubicSpline(list(points), list(points.values()))(frame), 0, 1)


def brighten(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """Two curves."""
    points = {0: 0, 0.5: 0.5 + value / 2, 1: 1}

    def lift(lab: Frame) -> Frame:
        return np.concatenate([100 * curved(lab[..., :1] / 100, points), lab[..., 1:]], axis=-1)

    return (2 * curved(frame, points) + in_lab(frame, lift)) / 3


def jitter(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """Five passes of displacement."""
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]].astype(float)
    for turn in range(5):
        moves = [value * normal(rows.shape, 2 * turn + axis) for axis in (0, 1)]
        places = [rows + moves[0], columns + moves[1]]
        planes = [ndimage.map_coordinates(frame[..., c], places, order=3, mode="nearest") for c in range(3)]
        frame = np.clip(np.stack(planes, axis=-1), 0, 1)
    return frame


def patches(frame: Frame, value: int, rng: np.random.Generator) -> Frame:
    """Patches that move."""
    moved = frame.copy()
    height, width = frame.shape[:2]
    for _ in range(value):
        row = rng.integers(16, height - 32)
        column = rng.integers(16, width - 32)
        down, right = np.round((rng.random(2) - 0.5) * 16).astype(int)
        source = moved[row : row + 16, column : column + 16].copy()
        moved[row + down : row + down + 16, column + right : column + right + 16] = source
    return moved


def pixelate(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """Down and up."""
    scale = 0.95 - value**0.6
    small = transform.rescale(frame, scale, order=0, channel_axis=-1, anti_aliasing=False)
    return transform.resize(small, frame.shape, order=0, anti_aliasing=False)


def quantization(frame: Frame, value: int, rng: np.random.Generator) -> Frame:
    """Thresholds for each frame."""
    levels = util.img_as_ubyte(frame)
    thresholds = otsu(np.bincount(levels.ravel(), minlength=256), value)
    return np.array([0, *thresholds[1:], 255])[np.digitize(levels, thresholds, right=True)] / 255


def impulse_noise(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """Black and white samples."""
    chance = uniform(frame.shape)
    return np.where(chance < value / 2, 0, np.where(chance < value, 1, frame))


def color_block(frame: Frame, value: int, rng: np.random.Generator) -> Frame:
    """Squares."""
    changed = frame.copy()
    for _ in range(value):
        row = rng.integers(0, frame.shape[0] - 32)
        column = rng.integers(0, frame.shape[1] - 32)
        changed[row : row + 32, column : column + 32] = rng.random(3)
    return changed


def sharpen(frame: Frame, value: float, rng: np.random.Generator) -> Frame:
    """Unsharp masking of lightness."""

    def mask(lab: Frame) -> Frame:
        light = filters.unsharp_mask(lab[..., 0] / 100, radius=3, amount=value, preserve_range=True)
        return np.concatenate([100 * np.clip(light, 0, 1)[..., None], lab[..., 1:]], axis=-1)

    return in_lab(frame, mask)


PLAIN: dict[str, Plain] = {
    "gaussian_blur": lambda f, v, r: filters.gaussian(f, v, mode="nearest", truncate=2, channel_axis=-1),
    "lens_blur": lambda f, v, r: filtered(f, disk(v)),
    "motion_blur": lambda f, v, r: filtered(f, line(v, float(r.uniform(0, np.pi)))),
    "color_diffusion": color_diffusion,
    "color_shift": color_shift,
    "color_quantization": color_quantization,
    "saturation_hsv": saturation_hsv,
    "saturation_lab": saturation_lab,
    "jpeg2000": lambda f, v, r: through_file(
        f, "JPEG2000", quality_mode="rates", quality_layers=[v], irreversible=True
    ),
    "jpeg": lambda f, v, r: through_file(f, "JPEG", quality=v),
    "white_noise": lambda f, v, r: np.clip(f + np.sqrt(v) * normal(f.shape), 0, 1),
    "color_noise": color_noise,
    "impulse_noise": impulse_noise,
    "multiplicative_noise": lambda f, v, r: np.clip(f + f * np.sqrt(12 * v) * (uniform(f.shape) - 0.5), 0, 1),
    "denoise": denoise,
    "brighten": brighten,
    "darken": lambda f, v, r: curved(f, {0: 0, 0.5: 0.5 - v / 2, 1: 1}),
    "mean_shift": lambda f, v, r: np.clip(f + v, 0, 1),
    "jitter": jitter,
    "patches": patches,
    "pixelate": pixelate,
    "quantization": quantization,
    "color_block": color_block,
    "sharpen": sharpen,
    "contrast": lambda f, v, r: curved(f, {0: 0, 0.3: 0.25 - v / 4, 0.5: 0.5, 0.7: 0.75 + v / 4, 1: 1}),
}


def distort_plainly(
    name: str, frame: NDArray[np.uint8], value: object, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A frame of bytes, distorted by way of floats as the plain form has it."""
    return util.img_as_ubyte(np.clip(PLAIN[name](util.img_as_float(frame), value, rng), 0, 1))
