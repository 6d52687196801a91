"""What can be measured of a clip without a reference and without weights.

The nine that VITAL (arXiv 2511.17962, section 9.3) describes its media by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import blur_effect

from vqathinker.media.container import probe
from vqathinker.media.medium import read_medium
from vqathinker.media.names import is_image_name
from vqathinker.media.video import read_spans

Frames = NDArray[np.uint8]
Luma = NDArray[np.float64]

NUM_PLACES = 8  # in a video, spread evenly, at each of which two frames in a row are looked at
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
BLOCK = 8  # pixels of a side, of most codecs' transforms
# Immerkær's mask, which no straight edge answers to
NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])


def read_places(path: str) -> list[Frames]:
    """Two frames in a row at several places of a video, a single one of a picture.

    Returns:
        (2, H, W, 3) or (1, H, W, 3) each.

    Raises:
        VideoError: if the file cannot be read.
    """
    if is_image_name(path):
        return [read_medium(path, num_keyframes=1, resize=None).frames]
    number = probe(path).num_packets
    starts = np.unique(np.linspace(0, max(number - 2, 0), NUM_PLACES).round().astype(int)).tolist()
    spans = [(frame, frame + 1) for start in starts for frame in range(start, min(start + 2, number))]
    frames = np.concatenate([clip.frames for clip in read_spans(path, spans, 1, num_frames=number)])
    return [frames] if len(frames) < 2 else list(frames.reshape(-1, 2, *frames.shape[1:]))


def measure_file(path: str) -> dict[str, float]:
    """Every measure of a file, by name; NaN for those of time where there is one frame.

    Raises:
        VideoError: if the file cannot be read.
    """
    places = [(frames[0], frames @ LUMA) for frames in read_places(path)]
    has_time = len(places[0][1]) > 1
    return {
        name: measure(places) if has_time or name not in OF_TIME else math.nan
        for name, measure in MEASURES.items()
    }


def blur(luma: Luma) -> float:
    """How little a further blur changes, from 0 (sharp) to 1 (Crété et al., 2007; scikit-image)."""
    return float(blur_effect(luma / 255))


def noise(luma: Luma) -> float:
    """The standard deviation of Gaussian noise, in values of 0 to 255 (Immerkær, 1996)."""
    answer = np.abs(ndimage.convolve(luma, NOISE_MASK)[1:-1, 1:-1])
    return float(math.sqrt(math.pi / 2) / 6 * answer.mean()) if answer.size else 0.0


def blockiness(luma: Luma) -> float:
    """Steps at the bounds of blocks of 8 × 8 over those elsewhere, minus 1: 0 where there are no blocks."""
    steps = [np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis) for axis in (0, 1)]
    bounds = [np.arange(1, len(values) + 1) % BLOCK == 0 for values in steps]
    at_bounds, elsewhere = (
        np.concatenate(
            [values[place if inside else ~place] for values, place in zip(steps, bounds, strict=True)]
        )
        for inside in (True, False)
    )
    if not at_bounds.size or not elsewhere.sum():
        return 0.0
    return float(at_bounds.mean() / elsewhere.mean() - 1)


def colourfulness(frame: Frames) -> float:
    """Spread and distance from grey of the opponent colours (Hasler and Süsstrunk, 2003)."""
    red, green, blue = np.moveaxis(frame.astype(np.float64), -1, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue])
    spread = np.hypot(*opponents.std(axis=(1, 2)))
    distance = np.hypot(*opponents.mean(axis=(1, 2)))
    return float(spread + 0.3 * distance)


def contrast(luma: Luma) -> float:
    """The standard deviation of the values, of 0 to 255."""
    return float(luma.std())


def luminance(luma: Luma) -> float:
    """The mean of the values, of 0 to 255."""
    return float(luma.mean())


def spatial_information(luma: Luma) -> float:
    """The standard deviation of the Sobel gradient's magnitude (ITU-T P.910)."""
    return float(np.hypot(ndimage.sobel(luma, 0), ndimage.sobel(luma, 1))[1:-1, 1:-1].std())


def temporal_information(lumas: NDArray[np.float64]) -> float:
    """The standard deviation of the difference of two frames in a row (ITU-T P.910)."""
    return float((lumas[1] - lumas[0]).std())


def flicker(lumas: NDArray[np.float64]) -> float:
    """By how much the mean changes between two frames in a row, in values of 0 to 255."""
    return float(abs(lumas[1].mean() - lumas[0].mean()))


Places = list[tuple[Frames, Luma]]


def _mean(places: Places, of: Callable[[Luma], float]) -> float:
    """Over the first frames of all places."""
    return float(np.mean([of(lumas[0]) for _, lumas in places]))


def _largest(places: Places, of: Callable[[Luma], float]) -> float:
    """As P.910 sums up a sequence."""
    return max(of(lumas[0]) for _, lumas in places)


MEASURES: dict[str, Callable[[Places], float]] = {
    "blur": partial(_mean, of=blur),
    "noise": partial(_mean, of=noise),
    "blockiness": partial(_mean, of=blockiness),
    "colourfulness": lambda places: float(np.mean([colourfulness(frame) for frame, _ in places])),
    "contrast": partial(_mean, of=contrast),
    "luminance": partial(_mean, of=luminance),
    "spatial_information": partial(_largest, of=spatial_information),
    "temporal_information": lambda places: max(temporal_information(lumas) for _, lumas in places),
    "flicker": lambda places: max(flicker(lumas) for _, lumas in places),
}
OF_TIME = frozenset({"temporal_information", "flicker"})
LESS_IS_BETTER = frozenset({"blur", "noise", "blockiness", "flicker"})
