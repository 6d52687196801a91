"""Distortions of known strength in [0, 1]: five spatial, three of time."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from .scenes import FPS, NUM_FRAMES, Array

SPATIAL = ("blur", "noise", "contrast", "compression", "pixels")
TEMPORAL = ("freeze", "stutter", "flicker")
KINDS = SPATIAL + TEMPORAL
MAX_BLUR_SIGMA = 2.0  # pixels
MAX_NOISE_SIGMA = 45 / 255
MIN_CONTRAST_GAIN = 0.25
MAX_PIXEL_SIDE = 6.0  # pixels
MIN_CRF = 18
MAX_CRF = 45
# In frames, out of NUM_FRAMES. The least is the distance between two of the eight keyframes, which show
# nothing of a shorter freeze or stutter.
MIN_HELD = 3  # how long a frozen picture stays
MAX_HELD = 20
MIN_STUTTER = 3  # how long each picture of a stutter stays
MAX_STUTTER = 12
MAX_FLICKER = 0.25  # of the brightness, up and down
FLICKER_PERIOD = 6.5  # frames; no multiple of the distance between keyframes


def distort(video: Array, strengths: Mapping[str, float], position: float, rng: np.random.Generator) -> Array:
    """Apply all but compression, which is the encoder's.

    Args:
        video: (T, H, W, 3) in [0, 1].
        strengths: kind to strength; absent ones are 0.
        position: where a freeze begins, from 0 (as early as it can) to 1.
        rng: draws the noise.
    """
    strength = dict.fromkeys(KINDS, 0.0) | dict(strengths)
    video = gaussian_filter(video, MAX_BLUR_SIGMA * strength["blur"], axes=(1, 2))
    video = pixelate(video, 1 + (MAX_PIXEL_SIDE - 1) * strength["pixels"])
    video = 0.5 + (1 - (1 - MIN_CONTRAST_GAIN) * strength["contrast"]) * (video - 0.5)
    # white noise follows contrast, to stay visible
    if strength["noise"] > 0:
        video = video + MAX_NOISE_SIGMA * strength["noise"] * rng.standard_normal(video.shape)
    shown = video[shown_frames(strength["freeze"], strength["stutter"], position)]
    phase = 2 * np.pi * (np.arange(NUM_FRAMES) / FLICKER_PERIOD + position)
    return shown + (MAX_FLICKER * strength["flicker"] * np.sin(phase))[:, None, None, None]


def pixelate(video: Array, side: float) -> Array:
    """Show the picture in squares of `side` pixels, as a player does that enlarges a small one."""
    if side <= 1:
        return video
    small = zoom(video, (1, 1 / side, 1 / side, 1), order=1, grid_mode=True, mode="nearest")
    rows, columns = (
        np.minimum(np.arange(size) * few // size, few - 1)
        for size, few in zip(video.shape[1:3], small.shape[1:3], strict=True)
    )
    return small[:, rows][:, :, columns]


def shown_frames(freeze: float, stutter: float, position: float) -> Array:
    """The index of the frame shown at each time, (T,) int.

    A stutter shows every n-th frame only; a freeze holds one, and what it hides is lost.
    """
    hold = round(MIN_STUTTER + (MAX_STUTTER - MIN_STUTTER) * stutter) if stutter else 1
    shown = np.arange(NUM_FRAMES) // hold * hold
    held = round(MIN_HELD + (MAX_HELD - MIN_HELD) * freeze) if freeze else 1
    start = round(position * (NUM_FRAMES - held))
    shown[start : start + held] = shown[start]
    return shown


def encode(path: Path, frames: Array, compression: float) -> None:
    """Write frames (T, H, W, 3) uint8 as H.264: no deblocking (blocks show), one thread (bytes repeat)."""
    with av.open(str(path), "w", format="mp4") as container:
        options = {"preset": "ultrafast", "crf": f"{MIN_CRF + (MAX_CRF - MIN_CRF) * compression:.3f}"}
        stream = container.add_stream("libx264", rate=Fraction(FPS), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
