"""Noise: in all channels, in colours, as impulses, in proportion; and what a denoiser leaves of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vqathinker.distortions.base import Apply, Distortion, Frames, each_frame

# full-range RGB of ITU-R BT.601 luma and colour differences with their ranges of 219 and 224 of 255
FROM_YCBCR = np.linalg.inv(
    np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
)
DENOISING_WINDOW = 21  # pixels of non-local means, and of the patches that it compares
PATCH = 7
DENOISING_STRENGTH = 0.8  # of non-local means, in standard deviations of the noise


class WhiteNoise(Distortion):
    """Gaussian noise of such a variance, values in [0, 1], in each channel of its own."""

    levels = (0.001, 0.002, 0.003, 0.005, 0.01)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw the noise, the same for all frames."""
        return adding(_normal(rng, size, value))


class ColorNoise(Distortion):
    """Gaussian noise of such a variance in Y, Cb and Cr."""

    levels = (0.0001, 0.0005, 0.001, 0.002, 0.003)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw the noise, the same for all frames."""
        return adding(_normal(rng, size, value) @ FROM_YCBCR.T.astype(np.float32))


class ImpulseNoise(Distortion):
    """Such a share of all samples is black or white."""

    levels = (0.001, 0.005, 0.01, 0.02, 0.03)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw which samples, the same for all frames."""
        chance = rng.random((*size, 3), dtype=np.float32)
        black = np.flatnonzero(chance < value / 2)
        white = np.flatnonzero((chance >= value / 2) & (chance < value))

        def apply(frames: Frames) -> Frames:
            changed = frames.copy()
            samples = changed.reshape(len(frames), -1)
            samples[:, black] = 0
            samples[:, white] = 255
            return changed

        return apply


class MultiplicativeNoise(Distortion):
    """Each sample times 1 plus uniform noise of such a variance."""

    levels = (0.001, 0.005, 0.01, 0.02, 0.05)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw the noise, the same for all frames."""
        half = np.float32(np.sqrt(3 * value))  # a uniform distribution's variance is its half-width² / 3
        factor = 1 + half * (2 * rng.random((*size, 3), dtype=np.float32) - 1)
        return each_frame(lambda frame: cv2.multiply(frame, factor, dtype=cv2.CV_8U))


class Denoise(Distortion):
    """Gaussian noise of such a variance, removed again by non-local means.

    KADIS removes it by a network (DnCNN); this needs no weights.
    """

    levels = (0.01, 0.03, 0.05, 0.1, 0.15)

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw the noise, the same for all frames."""
        noisy = adding(_normal(rng, size, value))
        strength = DENOISING_STRENGTH * 255 * float(np.sqrt(value))

        def remove(frame: Frames) -> NDArray[np.uint8]:
            denoised: NDArray[np.uint8] = cv2.fastNlMeansDenoising(
                frame, h=strength, templateWindowSize=PATCH, searchWindowSize=DENOISING_WINDOW
            )
            return denoised

        return lambda frames: each_frame(remove)(noisy(frames))


def adding(noise: NDArray[np.float32]) -> Apply:
    """Add (H, W, 3) noise, in units of the whole range, to every frame."""
    whole = np.clip(np.rint(noise * 255), -255, 255).astype(np.int16)
    return each_frame(lambda frame: cv2.add(frame, whole, dtype=cv2.CV_8U))


def _normal(rng: np.random.Generator, size: tuple[int, int], variance: float) -> NDArray[np.float32]:
    drawn = rng.standard_normal((*size, 3), dtype=np.float32)
    return drawn * np.float32(np.sqrt(variance))
