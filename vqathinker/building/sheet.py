"""A contact sheet: some samples as people see them, the medium above its question and answer."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vqathinker.building.parts import Index
from vqathinker.building.run import Build
from vqathinker.instructions.showing import shrink
from vqathinker.media.container import VideoError
from vqathinker.media.medium import read_medium
from vqathinker.samples import Sample
from vqathinker.seeds import rng_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUM_SHOWN = 12
COLUMNS = 4
WIDTH = 44  # letters of a line
LINES = 11
GREY = 127


def draw_sheet(index: Index, build: Build) -> Figure:
    """Samples drawn from all, the same ones each time."""
    from matplotlib.figure import Figure

    rows = sorted(rng_of(build.recipe.seed, "sheet").permutation(len(index))[:NUM_SHOWN].tolist())
    shown = list(index.read(rows))
    height = max(-(-len(shown) // COLUMNS), 1)
    figure = Figure(figsize=(4 * COLUMNS, 4.4 * height), layout="constrained")
    grid = figure.subplots(height, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, sample in zip(grid.flat, shown, strict=False):
        _draw(axes, sample, build)
    return figure


def _draw(axes: Axes, sample: Sample, build: Build) -> None:
    """One sample: the middle frame of each of its media, and its words."""
    frames = []
    for medium in sample.media:
        path = build.place("sheet").locate(medium)
        # in a process of its own: a file that no stage has read may crash a decoder
        clip = build.reader.read(partial(read_medium, num_keyframes=1, resize=shrink), path)
        if isinstance(clip, VideoError):
            frames.append(np.full((90, 160, 3), GREY, np.uint8))
        else:
            frames.append(clip.frames[0])
    axes.imshow(_side_by_side(frames))
    axes.set_title(sample.id[-WIDTH:], fontsize=8, parse_math=False)
    axes.text(0, -0.03, _words(sample), transform=axes.transAxes, fontsize=7, va="top", parse_math=False)


def _side_by_side(frames: list[np.ndarray]) -> np.ndarray:
    """Pictures of any sizes in one."""
    height = max(len(frame) for frame in frames)
    padded = [
        np.pad(frame, ((0, height - len(frame)), (0, 0), (0, 0)), constant_values=255) for frame in frames
    ]
    return np.concatenate(padded, axis=1)


def _words(sample: Sample) -> str:
    """Question, answer and labels, in so many lines at most."""
    parts = [f"[{sample.task}] {sample.question or ''}", f"→ {sample.answer}" if sample.answer else ""]
    if sample.target is not None:
        spread = "" if sample.spread is None else f" ± {sample.spread:.2f}"
        parts.append(f"score {sample.target:.2f}{spread}")
    if sample.levels is not None:
        parts.append("levels " + " ".join(f"{share:.2f}" for share in sample.levels))
    if sample.preference is not None:
        parts.append(f"preference {sample.preference:g}")
    lines = [line for part in parts for piece in part.split("\n") for line in textwrap.wrap(piece, WIDTH)]
    return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 1], "…"])
