"""Pristine scenes of several content families: what they show says nothing about quality.

Every family moves, fills the frame and has about the same contrast, so that a distortion costs each the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

NUM_FRAMES = 24
SIDE = 56  # pixels, as the base model sees them: nothing is lost in making them smaller
FPS = 12
MAX_REACH = 16  # pixels from a shape's centre to its furthest corner
CONTRAST = 0.2  # standard deviation of the pixels of a scene in [0, 1]
Array = np.ndarray


def render_scene(family: str, rng: np.random.Generator) -> Array:
    """A scene of a family in `FAMILIES`, (T, H, W, 3) float32 in [0, 1]."""
    video = FAMILIES[family](rng)
    video *= CONTRAST / video.std()
    video += rng.uniform(0.45, 0.55) - video.mean()
    return np.clip(video, 0, 1).astype(np.float32)


def shapes(rng: np.random.Generator) -> Array:
    """Moving discs, boxes and patterns before a drifting texture."""
    video = texture(rng, rng.uniform(7, 11))
    for kind in rng.choice(["disc", "rectangle", "checkerboard", "grating"], size=rng.integers(1, 4)):
        draw_shape(video, kind, rng)
    return video


def cartoon(rng: np.random.Generator) -> Array:
    """Flat colours with sharp edges: many plain shapes that pass over a plain ground."""
    video = np.broadcast_to(rng.uniform(-1.5, 1.5, 3), (NUM_FRAMES, SIDE, SIDE, 3)).astype(np.float32)
    for kind in rng.choice(["disc", "rectangle"], size=rng.integers(5, 9)):
        draw_shape(video, kind, rng)
    return video


def landscape(rng: np.random.Generator) -> Array:
    """Ridges one before the other, seen from a moving camera: the nearer, the faster they pass."""
    columns = np.arange(SIDE)
    rows = np.arange(SIDE)[:, None]
    ground = texture(rng, rng.uniform(6, 9))
    video = 0.3 * texture(rng, 15) + np.linspace(1.2, 0, SIDE)[:, None, None]
    speed = rng.choice([-1, 1]) * rng.uniform(0.5, 1)
    for depth in range(1, 4):
        colour = rng.uniform(-1.5, 1.5, 3)
        height = SIDE * (0.25 + 0.2 * depth)
        waves = [(rng.uniform(1.5, 5), rng.uniform(0.06, 0.5), rng.uniform(0, 6.3)) for _ in range(4)]
        for t in range(NUM_FRAMES):
            x = columns + speed * depth * t
            ridge = height + sum(size * np.sin(rate * x + phase) for size, rate, phase in waves)
            mask = np.clip(rows - ridge, 0, 1)[..., None]  # an edge one pixel soft
            video[t] += mask * (colour + 0.5 * ground[t] - video[t])
    return video


def corridor(rng: np.random.Generator) -> Array:
    """A tiled floor and ceiling in perspective, through which the camera flies, as in a game."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    horizon = SIDE * rng.uniform(0.4, 0.6)
    depth = 1 / np.maximum(np.abs(y - horizon) / SIDE, 0.04)
    tile = rng.uniform(0.5, 0.9)
    speed = rng.uniform(0.12, 0.3)
    turn = rng.uniform(-0.01, 0.01)
    first, second, fog = rng.uniform(-1.5, 1.5, (3, 3)).astype(np.float32)
    video = np.empty((NUM_FRAMES, SIDE, SIDE, 3), np.float32)
    for t in range(NUM_FRAMES):
        across = ((x - SIDE / 2) / SIDE + turn * t) * depth
        pattern = np.tanh(4 * np.sin(np.pi * across / tile) * np.sin(np.pi * (depth + speed * t) / tile))
        near = np.exp(-depth / 8)[..., None]
        surface = first + (second - first) * (pattern[..., None] / 2 + 0.5)
        video[t] = fog + near * (surface - fog)
    for _ in range(2):
        draw_shape(video, "rectangle", rng)
    return video


def cells(rng: np.random.Generator) -> Array:
    """Drifting patches, each point in the colour of the nearest seed, with dark seams between them."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    number = rng.integers(12, 24)
    places = rng.uniform(0, SIDE, (number, 2)).astype(np.float32)
    heading = rng.uniform(0, 2 * np.pi, number)
    steps = rng.uniform(0.5, 1.25, number)[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    colours = rng.uniform(-1.5, 1.5, (number, 3)).astype(np.float32)
    video = np.empty((NUM_FRAMES, SIDE, SIDE, 3), np.float32)
    for t in range(NUM_FRAMES):
        centres = (places + steps * t) % SIDE
        dy, dx = (
            np.abs(axis - centre[:, None, None]) for axis, centre in zip((y, x), centres.T, strict=True)
        )
        distance = np.hypot(np.minimum(dy, SIDE - dy), np.minimum(dx, SIDE - dx))  # the picture wraps around
        nearest = distance.argmin(axis=0)
        two = np.partition(distance, 1, axis=0)
        seam = np.clip((two[1] - two[0]) / 1.5, 0, 1)[..., None]
        video[t] = colours[nearest] * seam - 1.5 * (1 - seam)
    return video


def motion(rng: np.random.Generator) -> Array:
    """Positions (T, 2) in pixels: 0.5 to 1.25 pixels per frame, straight or along a curve."""
    turn = rng.choice([0.0, rng.uniform(-0.15, 0.15)])  # radians per frame
    heading = rng.uniform(0, 2 * np.pi) + turn * np.arange(NUM_FRAMES)
    steps = rng.uniform(0.5, 1.25) * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    return (rng.uniform(0, SIDE, 2) + np.cumsum(steps, axis=0)).astype(np.float32)


def texture(rng: np.random.Generator, wavelength: float) -> Array:
    """A moving texture (T, H, W, 3) of unit variance: a band of coloured noise, shifted exactly.

    Args:
        rng: draws it.
        wavelength: the band's centre in pixels.
    """
    fy = np.fft.fftfreq(SIDE)[:, None]
    fx = np.fft.rfftfreq(SIDE)[None, :]
    octaves = np.log2(np.maximum(np.hypot(fy, fx), 1e-6) * wavelength)  # from the centre
    pattern = rng.standard_normal((SIDE, SIDE, 1)) + 0.6 * rng.standard_normal((SIDE, SIDE, 3))
    spectrum = np.fft.rfft2(pattern, axes=(0, 1)) * np.exp(-2 * octaves**2)[..., None]
    dy, dx = motion(rng).T[:, :, None, None]
    shift_y, shift_x = (np.exp(-2j * np.pi * turns).astype(np.complex64) for turns in (fy * dy, fx * dx))
    shifted = spectrum.astype(np.complex64) * (shift_y * shift_x)[..., None]
    video = np.fft.irfft2(shifted, s=(SIDE, SIDE), axes=(1, 2))
    return video / video.std()


def window(rng: np.random.Generator) -> tuple[tuple[Array, Array, Array], Array, Array]:
    """Where a moving shape is: an index into the video (the picture wraps around), its axes u and v.

    The index selects (T, K, K, 3); u and v, each (T, K, K), are in pixels from the shape's centre.
    """
    centre = motion(rng)
    pixels = np.floor(centre)[..., None].astype(int) + np.arange(-MAX_REACH, MAX_REACH + 1)  # (T, 2, K)
    y, x = (pixels - centre[..., None]).astype(np.float32).swapaxes(0, 1)
    angle = rng.uniform(0, math.pi)
    cos = math.cos(angle)
    sin = math.sin(angle)
    y = y[:, :, None]
    x = x[:, None, :]
    rows, columns = (pixels % SIDE).swapaxes(0, 1)
    index = (np.arange(NUM_FRAMES)[:, None, None], rows[:, :, None], columns[:, None, :])
    return index, cos * x + sin * y, cos * y - sin * x


def draw_shape(video: Array, kind: str, rng: np.random.Generator) -> None:
    """Draw one moving shape, its edge one pixel soft, into the video (T, H, W, 3)."""
    index, u, v = window(rng)
    radius = rng.uniform(5, 11)
    wavelength = rng.uniform(5, 8)
    if kind in ("disc", "grating"):
        distance = np.hypot(u, v) - radius
    else:
        distance = np.maximum(np.abs(u) - radius, np.abs(v) - rng.uniform(0.5, 1) * radius)
    wave_u = np.sin(2 * math.pi / wavelength * u)
    wave_v = np.sin(2 * math.pi / wavelength * v)
    patterns = {"grating": wave_u, "checkerboard": np.sign(wave_u * wave_v)}
    first, second = rng.uniform(-2, 2, (2, 3)).astype(np.float32)
    colour = first + (second - first) * (patterns.get(kind, np.ones_like(u)) / 2 + 0.5)[..., None]
    mask = np.clip(0.5 - distance, 0, 1)[..., None]
    video[index] += mask * (colour - video[index])


FAMILIES: dict[str, Callable[[np.random.Generator], Array]] = {
    "shapes": shapes,
    "cartoon": cartoon,
    "landscape": landscape,
    "corridor": corridor,
    "cells": cells,
}
