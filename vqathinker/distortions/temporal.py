"""Distortions of time: frames that stay, a camera that shakes."""

from __future__ import annotations

import cv2
import numpy as np

from vqathinker.distortions.base import TEMPORAL_WORDS, Apply, Distortion, Frames


class Stutter(Distortion):
    """Each frame shows what the one before it shows, with such a probability.

    VITAL publishes the kind, not the numbers: these are ours.
    """

    levels = (0.1, 0.25, 0.5)
    ranks = (1, 2, 3)
    words = TEMPORAL_WORDS
    needs_time = True

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw, frame by frame, whether it shows what was shown."""
        shown: list[Frames] = []  # the last frame of the part before

        def apply(frames: Frames) -> Frames:
            changed = frames.copy()
            for place, stays in enumerate(rng.random(len(frames)) < value):
                before = changed[place - 1] if place else shown[0] if shown else None
                if stays and before is not None:
                    changed[place] = before
            shown[:] = [changed[-1].copy()]
            return changed

        return apply


class CameraShake(Distortion):
    """Each frame is moved by Gaussian noise, such a share of the height its σ; edges are replicated.

    VITAL publishes the kind, not the numbers: these are ours.
    """

    levels = (0.005, 0.01, 0.02)
    ranks = (1, 2, 3)
    words = TEMPORAL_WORDS
    needs_time = True

    def draw(self, value: float, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw, frame by frame, how far it is moved."""
        height, width = size

        def apply(frames: Frames) -> Frames:
            changed = np.empty_like(frames)
            for place, frame, (right, down) in zip(
                changed, frames, value * height * rng.standard_normal((len(frames), 2)), strict=True
            ):
                move = np.array([[1, 0, right], [0, 1, down]], np.float32)
                place[:] = cv2.warpAffine(frame, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
            return changed

        return apply
