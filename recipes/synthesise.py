"""Synthesise the demo's data set: short H.264 clips with known distortions and a known MOS.

    python recipes/synthesise.py out/synthetic --num-train 320 --num-val 40 --num-test 80 --seed 0

`out/synthetic` then holds `train.csv`, `val.csv`, `test.csv` (`video` is relative to the table's folder), the
clips in `videos/` and the parameters in `synthesis.json`. The same line resumes an interrupted run: finished
clips stay. Content (the scene) and distortions have separate seeds: content says nothing about the MOS.
"""

import argparse
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from world.build import generator, make_all, write_text
from world.distortions import (
    MAX_BLUR_SIGMA,
    MAX_HELD_FRAMES,
    MAX_NOISE_SIGMA,
    MIN_CONTRAST_GAIN,
    encode,
)
from world.scenes import NUM_FRAMES, Array, render_scene

# A distortion's share of the MOS at strength 1, and how often it is drawn: little where keyframes hide it.
WEIGHTS = {"blur": 0.8, "noise": 0.75, "contrast": 0.75, "compression": 0.35, "freeze": 0.5, "drop": 0.1}
NUM_DISTORTIONS_PROBABILITY = (0.08, 0.47, 0.35, 0.1)  # of 0, 1, 2, 3 distortions in a clip
MIN_STRENGTH = 0.15  # weaker ones would be labels without a visible cause
CLIPS_PER_SCENE = 2  # the same content at two qualities
SPLITS = ("train", "val", "test")
VERSION = 1  # raise it when the same parameters give other clips


@dataclass(frozen=True)
class Clip:
    """One clip to render: everything a worker needs, and everything the table says.

    `strengths` maps the names in `WEIGHTS` to [0, 1]; both keys are spawn keys of `seed`.
    """

    name: str
    scene: str
    seed: int
    scene_key: tuple[int, ...]
    distortion_key: tuple[int, ...]
    strengths: Mapping[str, float]


def mos(strengths: Mapping[str, float]) -> float:
    """Return 100 · Π_d (1 − w_d · s_d): the MOS on (0, 100], without observer noise.

    It falls smoothly and strictly with each strength s_d in [0, 1] (absent: 0); nothing is clipped.

    Raises:
        ValueError: a strength outside [0, 1] or of a distortion that is not in `WEIGHTS`.
    """
    for name, strength in strengths.items():
        if name not in WEIGHTS or not 0 <= strength <= 1:
            raise ValueError(f"{name}={strength!r}: expected one of {sorted(WEIGHTS)} in [0, 1]")
    return 100 * math.prod(1 - WEIGHTS[name] * strength for name, strength in strengths.items())


def draw_strengths(rng: np.random.Generator) -> dict[str, float]:
    """Draw zero to three distortions; rounded, so that the table holds exactly what was applied."""
    count = rng.choice(len(NUM_DISTORTIONS_PROBABILITY), p=NUM_DISTORTIONS_PROBABILITY)
    share = np.array([*WEIGHTS.values()]) / sum(WEIGHTS.values())
    chosen = set(rng.choice([*WEIGHTS], size=count, replace=False, p=share).tolist())
    return {name: round(rng.uniform(MIN_STRENGTH, 1), 4) if name in chosen else 0.0 for name in WEIGHTS}


def plan(split: str, num_clips: int, seed: int) -> list[Clip]:
    """List the clips of one split; the other splits' sizes do not matter, and no scene is in two splits."""
    number = SPLITS.index(split)
    clips = []
    for i in range(num_clips):
        scene = i // CLIPS_PER_SCENE
        name = f"{split}-{i:05d}.mp4"
        scene_name = f"{split}-{scene:05d}"
        strengths = draw_strengths(generator(seed, (1, number, i)))
        clips.append(Clip(name, scene_name, seed, (0, number, scene), (2, number, i), strengths))
    return clips


def shown_frames(strengths: Mapping[str, float], rng: np.random.Generator) -> Array:
    """Return the index of the frame shown at each time, (T,) int: `drop` first, then `freeze`.

    Drop loses every n-th frame, n = 2/strength on average, and its predecessor stays. Freeze holds one frame
    for up to `MAX_HELD_FRAMES`, at a random place; what it hides is lost.
    """
    lost = np.diff(np.floor(np.arange(NUM_FRAMES) * strengths["drop"] / 2), prepend=0) > 0
    shown = np.arange(NUM_FRAMES) - lost
    held = 1 + round((MAX_HELD_FRAMES - 1) * strengths["freeze"])
    start = rng.integers(NUM_FRAMES - held + 1)
    shown[start : start + held] = shown[start]
    return shown


def distort(video: Array, strengths: Mapping[str, float], rng: np.random.Generator) -> Array:
    """Apply all but compression to (T, H, W, 3); white noise follows contrast, to stay visible."""
    shown = shown_frames(strengths, rng)
    video = gaussian_filter(video, MAX_BLUR_SIGMA * strengths["blur"], axes=(1, 2))
    video = 0.5 + (1 - (1 - MIN_CONTRAST_GAIN) * strengths["contrast"]) * (video - 0.5)
    if strengths["noise"] > 0:
        video += MAX_NOISE_SIGMA * strengths["noise"] * rng.standard_normal(video.shape, dtype=np.float32)
    return video[shown]


def render(clip: Clip) -> Array:
    """Return the clip's frames before compression, (T, H, W, 3) uint8."""
    scene = render_scene("shapes", generator(clip.seed, clip.scene_key))
    video = distort(scene, clip.strengths, generator(clip.seed, clip.distortion_key))
    return np.rint(255 * np.clip(video, 0, 1)).astype(np.uint8)


def make_clip(clip: Clip, folder: Path) -> None:
    """Render and encode one clip; it gets its name only when complete."""
    partial = folder / f"{clip.name}.part"
    encode(partial, render(clip), clip.strengths["compression"])
    partial.replace(folder / clip.name)


def table(clips: list[Clip]) -> str:
    """Return one split's labels as CSV."""
    rows = [("video", "mos", "scene", *WEIGHTS)]
    for clip in clips:
        numbers = [f"{number:.4f}" for number in (mos(clip.strengths), *clip.strengths.values())]
        rows.append((f"videos/{clip.name}", numbers[0], clip.scene, *numbers[1:]))
    return "".join(",".join(row) + "\n" for row in rows)


def claim(out_dir: Path, parameters: dict[str, int], overwrite: bool) -> None:
    """Make `out_dir` ours for these parameters.

    Raises:
        ValueError: it holds clips or tables of other parameters or of unknown origin, and not `overwrite`.
    """
    record = out_dir / "synthesis.json"
    found = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
    if found == parameters:
        return
    patterns = [name for split in SPLITS for name in (f"{split}.csv", f"videos/{split}-{'[0-9]' * 5}.mp4*")]
    others = [path for pattern in patterns for path in out_dir.glob(pattern)]
    if (found is not None or others) and not overwrite:
        raise ValueError(f"{out_dir} holds another data set, of {found}: --overwrite puts {parameters} there")
    for path in others:
        path.unlink()
    write_text(record, json.dumps(parameters, indent=2) + "\n")


def synthesise(
    out_dir: Path,
    *,
    num_train: int = 320,
    num_val: int = 40,
    num_test: int = 80,
    seed: int = 0,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write the data set into `out_dir`, or what is missing of it; return the table of each split.

    The tables' bytes and the decoded frames depend on the counts and the seed only, not on `num_workers` (one
    per CPU by default). `overwrite` replaces the clips and tables of another data set.

    Raises:
        ValueError: a negative count, no worker, or another data set in `out_dir` without `overwrite`.
    """
    num_workers = num_workers if num_workers is not None else os.cpu_count() or 1
    counts = dict(zip(SPLITS, (num_train, num_val, num_test), strict=True))
    if min(counts.values()) < 0 or num_workers < 1:
        raise ValueError(f"counts {counts} must be at least 0 and num_workers={num_workers} at least 1")
    parameters = {"version": VERSION, "seed": seed, **{f"num_{split}": n for split, n in counts.items()}}
    plans = {split: plan(split, count, seed) for split, count in counts.items()}
    claim(out_dir, parameters, overwrite)
    videos = out_dir / "videos"
    missing = [clip for clip in chain.from_iterable(plans.values()) if not (videos / clip.name).exists()]
    make_all(make_clip, missing, videos, num_workers)
    tables = {split: out_dir / f"{split}.csv" for split in SPLITS}
    for split, path in tables.items():
        write_text(path, table(plans[split]))
    return tables


def main() -> None:
    """Launch line: python recipes/synthesise.py out/synthetic --seed 0 --num-workers 2."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out_dir", type=Path)
    for name in ("num_train", "num_val", "num_test", "seed", "num_workers"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=argparse.SUPPRESS)
    parser.add_argument("--overwrite", action="store_true", help="replace another data set in out_dir")
    print(*synthesise(**vars(parser.parse_args())).values(), sep="\n")


if __name__ == "__main__":
    main()
