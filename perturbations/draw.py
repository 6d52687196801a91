"""The draw of one perturbation for one video and step, the same on every process and after a resume."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Perturbation = Callable[[int, np.random.Generator], NDArray[np.int64]]
MAX_DRAWS = 100  # the least disturbing mode, a shuffle of two frames, is the identity every second time


def generator(seed: int, video_id: str, step: int) -> np.random.Generator:
    """Return the generator of a video and step; it depends on nothing else, neither process nor hash seed.

    >>> int(generator(0, "clip", 3).integers(1000)) == int(generator(0, "clip", 3).integers(1000))
    True
    """
    digest = hashlib.sha256(f"{int(seed)}|{int(step)}|{video_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def draw(
    modes: Mapping[str, Perturbation], num_frames: int, *, seed: int, video_id: str, step: int
) -> tuple[str, NDArray[np.int64]]:
    """Draw one of the modes, each as likely as the others, and its frame indices, which are never 0 … T−1.

    Args:
        modes: the perturbations by name; their order counts.
        num_frames: T ≥ 2.
        seed: of the run.
        video_id: of the video, with its data set's name if ids repeat between data sets.
        step: of the generation.

    Returns:
        The name of the mode and its indices; an identity is drawn again from the same mode.

    Raises:
        ValueError: for T < 2, no modes, a mode that keeps returning the identity or returns no frame indices.
        RuntimeError: if the mode raises; names it and keeps the cause.
    """
    if num_frames < 2:
        raise ValueError(f"a temporal perturbation needs at least two frames, got {num_frames}")
    if not modes:
        raise ValueError("there is no perturbation to draw from")
    rng = generator(seed, video_id, step)
    name = list(modes)[rng.integers(len(modes))]
    for _ in range(MAX_DRAWS):
        try:
            indices = np.asarray(modes[name](num_frames, rng))
        except Exception as error:  # foreign code may raise anything; the run still stops, now with a name
            raise RuntimeError(f"perturbation {name!r} failed for {num_frames} frames: {error!r}") from error
        if indices.ndim != 1 or indices.size == 0 or indices.dtype.kind not in "iu":
            raise ValueError(f"perturbation {name!r} returned {indices!r} instead of frame indices")
        if indices.min() < 0 or indices.max() >= num_frames:
            raise ValueError(f"perturbation {name!r} returned {indices.tolist()} for {num_frames} frames")
        if not np.array_equal(indices, np.arange(num_frames)):
            return name, indices.astype(np.int64)
    raise ValueError(f"perturbation {name!r} left all {num_frames} frames in place {MAX_DRAWS} times")
