"""Plan, render and label the sets of the world; what is there already stays.

A clip depends on the world's seed, its set and its number alone. Scene, distortions, noise and votes have
generators of their own.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from vqathinker.atomic import write_whole

from . import observers, words
from .distortions import KINDS, distort, encode
from .scenes import FAMILIES, render_scene

VERSION = 3  # raise it when the same seed gives other clips or labels
RECORD = "world.json"
SETS_FILE = "sets.yaml"  # as `vqathinker evaluate --sets` reads it
CLIPS_PER_SCENE = 2  # the same content at two qualities
SCENE, DISTORTION, NOISE, VOTES, CRUDE, POOL = range(6)  # whose generator it is
T = TypeVar("T")


@dataclass(frozen=True)
class Set:
    """One label file.

    Attributes:
        num_clips: how many.
        families: content its scenes are drawn from.
        kinds: distortions that are drawn.
        counts: probability of 0, 1, 2 … distortions in a clip.
        always: kinds of which each distorted clip has at least one; empty for none.
    """

    num_clips: int
    families: tuple[str, ...]
    kinds: tuple[str, ...]
    counts: tuple[float, ...]
    always: tuple[str, ...] = ()


SEEN = ("shapes", "cartoon", "landscape")
RATED = ("blur", "noise", "contrast", "compression", "freeze")
USUAL = (0.08, 0.46, 0.46)
SETS = {
    "train": Set(1000, SEEN, RATED, USUAL),
    "val": Set(120, SEEN, RATED, USUAL),
    "test": Set(600, SEEN, RATED, USUAL),
    # the same distortions on content without a label
    "ood_content": Set(400, ("corridor", "cells"), RATED, USUAL),
    # kinds without a label, and up to three at once; every clip is frozen or of a low frame rate
    "ood_distortion": Set(400, SEEN, KINDS, (0.0, 0.35, 0.4, 0.25), always=("stutter", "freeze")),
}
# a base model has seen much, but nobody told it what people think of it
BASE = Set(20000, tuple(FAMILIES), KINDS, (0.06, 0.34, 0.4, 0.2))
SCORED = tuple(name for name in SETS if name not in ("train", "val"))
NUMBERS = {name: number for number, name in enumerate(["base", *SETS])}


@dataclass(frozen=True)
class Clip:
    """A clip to render, and what is known of it.

    Attributes:
        name: of its file, without the suffix.
        seed: of the world.
        key: its set's number and its own.
        family: of its scene.
        strengths: kind to strength.
        position: of a freeze and a flicker, 0 to 1.
    """

    name: str
    seed: int
    key: tuple[int, int]
    family: str
    strengths: dict[str, float]
    position: float

    def generator(self, what: int) -> np.random.Generator:
        """The clip's own generator for one thing; two clips share a scene's."""
        number, index = self.key
        index = index // CLIPS_PER_SCENE if what == SCENE else index
        return generator(self.seed, (what, number, index))


def generator(seed: int, key: tuple[int, ...]) -> np.random.Generator:
    """One clip's or scene's generator, independent of all others and of who renders it."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def plan(name: str, wanted: Set, seed: int) -> list[Clip]:
    """The clips of one set; the sizes of others do not matter, and no scene is in two sets."""
    number = NUMBERS[name]
    clips = []
    for index in range(wanted.num_clips):
        rng = generator(seed, (DISTORTION, number, index))
        family = wanted.families[index // CLIPS_PER_SCENE % len(wanted.families)]
        strengths = draw_strengths(wanted, rng)
        clips.append(
            Clip(f"{name}-{index:05d}", seed, (number, index), family, strengths, float(rng.random()))
        )
    return clips


def draw_strengths(wanted: Set, rng: np.random.Generator) -> dict[str, float]:
    """Some distortions, rounded so that the label file holds exactly what was applied."""
    count = rng.choice(len(wanted.counts), p=wanted.counts)
    chosen: list[str] = []
    if count and wanted.always:
        chosen = [str(rng.choice(wanted.always))]
    others = [kind for kind in wanted.kinds if kind not in chosen]
    chosen += rng.choice(others, size=count - len(chosen), replace=False).tolist()
    return {kind: round(float(rng.uniform(words.WEAKEST, 1)), 4) for kind in KINDS if kind in chosen}


def make_world(folder: Path, *, seed: int = 0, num_workers: int | None = None) -> dict[str, Any]:
    """Write the labelled sets into `folder`, or what is missing of them.

    Returns:
        The noise ceiling of each set: SRCC and PLCC of an ideal scorer.

    Raises:
        ValueError: if the folder holds another world.
    """
    claim(folder, {"version": VERSION, "seed": seed})
    biases = generator(seed, (POOL,)).normal(0, observers.BIAS_STD, observers.NUM_OBSERVERS)
    plans = {name: plan(name, wanted, seed) for name, wanted in SETS.items()}
    make_clips([clip for clips in plans.values() for clip in clips], folder / "clips", num_workers)
    ceilings = {}
    for name, clips in plans.items():
        rows = [label(clip, biases) for clip in clips]
        write_text(folder / f"{name}.csv", table(rows))
        srcc, plcc = observers.ceiling([row["quality"] for row in rows], [row["mos"] for row in rows])
        ceilings[name] = {"srcc": round(srcc, 4), "plcc": round(plcc, 4)}
    write_text(folder / "ceiling.json", json.dumps(ceilings, indent=2) + "\n")
    scored = {
        name: {"labels": f"{name}.csv", "videos": ".", "range": [1, 5], "scale": "affine"} for name in SCORED
    }
    write_text(folder / SETS_FILE, yaml.safe_dump(scored, sort_keys=False))
    return ceilings


def make_base_set(
    folder: Path, *, seed: int = 0, num_clips: int | None = None, num_workers: int | None = None
) -> Path:
    """Write the clips that the base model learns from, and `base.csv` with what it is to say of them."""
    claim(folder, {"version": VERSION, "seed": seed})
    clips = plan("base", replace(BASE, num_clips=num_clips or BASE.num_clips), seed)
    make_clips(clips, folder / "clips", num_workers)
    rows = [
        {
            "video": f"clips/{clip.name}.mp4",
            "mos": words.crude_score(clip.strengths, clip.generator(CRUDE)),
            "reasoning": words.describe(clip.strengths, clip.position),
        }
        for clip in clips
    ]
    path = folder / "base.csv"
    write_text(path, table(rows))
    return path


def label(clip: Clip, biases: np.ndarray) -> dict[str, Any]:
    """A row of a label file: the votes' mean and spread, and what is true of the clip."""
    true = observers.quality(clip.strengths)
    votes = observers.rate(true, biases, clip.generator(VOTES))
    return {
        "video": f"clips/{clip.name}.mp4",
        "mos": round(float(votes.mean()), 4),
        "std": round(float(votes.std(ddof=1)), 4),
        "family": clip.family,
        "quality": round(true, 4),
        "position": round(clip.position, 4),
        **{kind: clip.strengths.get(kind, 0.0) for kind in KINDS},
    }


def make_clips(clips: Iterable[Clip], folder: Path, num_workers: int | None) -> None:
    """Render what is not there yet."""
    missing = [clip for clip in clips if not (folder / f"{clip.name}.mp4").exists()]
    make_all(make_clip, missing, folder, num_workers)


def make_all(
    make: Callable[[T, Path], None], clips: Sequence[T], folder: Path, num_workers: int | None
) -> None:
    """Make each clip in a folder: in this process if one is given, in one per CPU if no number is."""
    folder.mkdir(parents=True, exist_ok=True)
    if num_workers == 1:
        for clip in clips:
            make(clip, folder)
        return
    # spawned: the caller may hold threads (torch), which do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers or os.cpu_count(), mp_context=context) as pool:
        list(pool.map(make, clips, repeat(folder), chunksize=8))  # a worker's error is raised here


def make_clip(clip: Clip, folder: Path) -> None:
    """Render and encode one clip, which gets its name only when it is complete."""
    partial = folder / f"{clip.name}.part"
    encode(partial, render(clip), clip.strengths.get("compression", 0.0))
    partial.replace(folder / f"{clip.name}.mp4")


def render(clip: Clip) -> np.ndarray:
    """The frames before compression, (T, H, W, 3) uint8."""
    scene = render_scene(clip.family, clip.generator(SCENE))
    video = distort(scene, clip.strengths, clip.position, clip.generator(NOISE))
    return np.rint(255 * np.clip(video, 0, 1)).astype(np.uint8)


def claim(folder: Path, parameters: dict[str, int]) -> None:
    """Make the folder that of this world."""
    record = folder / RECORD
    found = json.loads(record.read_text()) if record.exists() else None
    if found is None and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds something else; give another folder")
    if found not in (None, parameters):
        raise ValueError(f"{folder} holds the world {found}, not {parameters}; give another folder")
    write_text(record, json.dumps(parameters) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
