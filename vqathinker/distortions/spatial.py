"""What is in the wrong place, too coarse, or covered."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vqathinker.distortions.base import Apply, Distortion, Frames, by_table, each_frame

PASSES = 5  # of jitter
PATCH = 16  # pixels
BLOCK = 32  # pixels


class Jitter(Distortion):
    """Each pixel is taken from beside: in five passes from places that are off by Gaussian noise of such a σ.

    Bicubic interpolation; edges are replicated.
    """

    levels = (0.05, 0.1, 0.2, 0.5, 1.0)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw the places, the same for all frames."""
        down, right = np.mgrid[: size[0], : size[1]].astype(np.float32)
        moves = np.float32(value) * rng.standard_normal((PASSES, 2, *size), dtype=np.float32)
        maps = [(right + across, down + along) for across, along in moves]

        def shake(frame: Frames) -> NDArray[np.float32]:
            shaken = frame.astype(np.float32)
            for across, along in maps:
                shaken = cv2.remap(shaken, across, along, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            return np.clip(np.rint(shaken), 0, 255)

        return each_frame(shake)


class Patches(Distortion):
    """So many patches of 16 × 16 pixels are copied to places up to 8 pixels beside, one after the other."""

    levels = (20, 40, 60, 80, 100)

    def draw(self, value: int, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw the patches and their moves, the same for all frames.

        Raises:
            ValueError: if the frames are smaller than a patch and its way.
        """
        least = PATCH + 2 * PATCH + 1
        if min(size) < least:
            raise ValueError(f"frames of {size[1]} × {size[0]}: patches need {least} × {least} pixels")
        ends = [side - 2 * PATCH for side in size]
        starts = np.stack([rng.integers(PATCH, end, value) for end in ends], axis=1)
        moves = np.rint(PATCH * (rng.random((value, 2)) - 0.5)).astype(int)
        places = list(zip(starts.tolist(), (starts + moves).tolist(), strict=True))

        def apply(frames: Frames) -> Frames:
            changed = frames.copy()
            for (row, column), (to_row, to_column) in places:
                patch = changed[:, row : row + PATCH, column : column + PATCH].copy()
                changed[:, to_row : to_row + PATCH, to_column : to_column + PATCH] = patch
            return changed

        return apply


class Pixelate(Distortion):
    """The picture at .95 − s^.6 of its size, enlarged again, both by the nearest pixel."""

    levels = (0.01, 0.05, 0.1, 0.2, 0.5)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn."""
        rows, columns = (_coarse(side, 0.95 - value**0.6) for side in size)
        kept, copies = np.unique(rows, return_inverse=True)

        def coarsen(frame: Frames) -> Frames:
            # a pixel of four bytes moves as one number, about four times as fast as one of three
            pixels = cv2.cvtColor(frame[kept], cv2.COLOR_RGB2RGBA).view(np.uint32)[..., 0]
            wide = pixels.take(columns, axis=1)
            four = wide.view(np.uint8).reshape(*wide.shape, 4)
            coarse: Frames = cv2.cvtColor(four, cv2.COLOR_RGBA2RGB).take(copies, axis=0)
            return coarse

        return each_frame(coarsen)


class Quantization(Distortion):
    """So many thresholds by Otsu's criterion over all channels; a class becomes its lower threshold.

    The lowest class becomes 0, the highest 1.
    """

    levels = (20, 16, 13, 10, 7)

    def draw(self, value: int, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Nothing is drawn; the thresholds are those of the first frames."""
        stairs: list[Apply] = []

        def apply(frames: Frames) -> Frames:
            if not stairs:
                counts = np.bincount(frames.reshape(-1), minlength=256)
                stairs.append(by_table(_stairs(otsu(counts, value))))
            return stairs[0](frames)

        return apply


class ColorBlock(Distortion):
    """So many squares of 32 × 32 pixels, each of a colour that is drawn."""

    levels = (2, 4, 6, 8, 10)

    def draw(self, value: int, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw places and colours, the same for all frames."""
        places = [rng.integers(0, max(1, side - BLOCK + 1), value).tolist() for side in size]
        colours = rng.integers(0, 256, (value, 3), dtype=np.uint8)

        def apply(frames: Frames) -> Frames:
            changed = frames.copy()
            for row, column, colour in zip(*places, colours, strict=True):
                changed[:, row : row + BLOCK, column : column + BLOCK] = colour
            return changed

        return apply


def otsu(counts: NDArray[np.int_], number: int) -> list[int]:
    """The thresholds that make the classes' means differ most: the last value of each class but the highest.

    Between two values that are there it lies in the middle.

    Source: Otsu, 1979; found exactly, class by class, over the 256 values.

    Args:
        counts: (256,) how often each value is there.
        number: of thresholds.

    >>> otsu(np.array([5, 0, 0, 5] + [0] * 251 + [9]), 2)
    [1, 129]
    """
    weights = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    sums = np.concatenate([[0], np.cumsum(counts * np.arange(256))]).astype(np.float64)
    # gain[i, j]: of a class of the values i to j − 1, its weight times its mean²
    mass = weights[None] - weights[:, None]
    total = sums[None] - sums[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(mass > 0, total**2 / mass, 0.0)
    gain[np.tril_indices(257)] = -np.inf  # a class has a value
    best = gain[0].copy()  # of the values below j in one class
    before = []
    for _ in range(number):
        whole = best[:, None] + gain
        # the middle of equals, so that a threshold lies between two values that are there
        cut = _middle_of_largest(whole)
        before.append(cut)
        best = whole[cut, np.arange(257)]
    thresholds = []
    end = 256
    for cut in reversed(before):
        end = int(cut[end])
        thresholds.append(end - 1)
    return thresholds[::-1]


def _middle_of_largest(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Of each column the row of the largest value; of equal ones the middle."""
    is_largest = values == values.max(axis=0)
    first = is_largest.argmax(axis=0)
    last = len(values) - 1 - is_largest[::-1].argmax(axis=0)
    middle = (first + last + 1) // 2
    return np.where(is_largest[middle, np.arange(values.shape[1])], middle, first)


def _stairs(thresholds: list[int]) -> NDArray[np.uint8]:
    """What each value becomes: 0 below the first threshold, 255 above the last, else the one below it."""
    heights = np.array([0, *thresholds[1:], 255], dtype=np.uint8)
    classes = np.searchsorted(thresholds, np.arange(256))
    return heights[classes]


def _coarse(side: int, scale: float) -> NDArray[np.intp]:
    """From which pixel each one of a side is taken."""
    few = max(1, int(np.ceil(side * scale)))
    small = np.minimum(((np.arange(side) + 0.5) * few / side).astype(int), few - 1)
    places: NDArray[np.intp] = np.minimum(((small + 0.5) * side / few).astype(int), side - 1)
    return places
