"""Distortions, distorted copies and builds of training data, each against its plain form.

python benchmarks/bench_data_engine.py

Writes benchmarks/results/data_engine.json. Five parts, both sides of each in one run:

1. Every distortion of space at its middle level on 1080p frames, ours part by part, and the plainest form
   frame by frame (`plain_distortions.py`). Ours runs for 120 frames or `--seconds`, the plain form for at
   least two frames; seconds a frame are compared, medians of three.
2. A distorted copy against a bare decoding and encoding of that copy by PyAV with the same encoder, of cheap
   distortions: both encode the same pictures, which take the encoder unequal times.
3. Eight copies by two processes against one.
4. The peak memory of a process that distorts 300 seconds of video against one that distorts 10.
5. A build of many short clips, killed ten times, against one that ran through: the files are compared byte
   by byte, and so are those of a second build.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml
from common import RESULTS, arguments, environment, write
from plain_distortions import PLAIN, distort_plainly
from rich.console import Console
from rich.table import Table

from vqathinker.distortions import DISTORTIONS
from vqathinker.distortions.copies import distort_file, write_copy
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.write import PART, Encoding

SIZE = (1080, 1920)
NUM_FRAMES = 120
CHEAP = ("mean_shift", "darken", "contrast", "color_block", "pixelate", "stutter")
KILLS = 10
RECIPE = {
    "stages": {
        "pool": {"stage": "select", "seconds": None, "smallest": None},
        "distorted": {"stage": "distort", "draw_from": ["white_noise", "pixelate", "darken", "stutter"]},
        "recognition": {"stage": "build", "builder": "recognition"},
        "questions": {"stage": "build", "from": "distorted", "builder": "understanding"},
        "samples": {"stage": "mix", "parts": {"recognition": 1, "questions": 5}},
    }
}
BUILD = """
import sys
from pathlib import Path
from vqathinker.building.listing import list_media
from vqathinker.building.recipe import Recipe
from vqathinker.building.run import Build
recipe, media, out = map(Path, sys.argv[1:])
Build.of(Recipe.from_file(recipe), list_media(media, out), out).run()
"""


def main() -> None:
    """Measure all parts, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--parts", nargs="+", default=["kernels", "copies", "workers", "memory", "build"])
    options = parser.parse_args()
    stored = RESULTS / "data_engine.json"
    before: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    results: dict[str, Any] = before.get("results", {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways: dict[str, Callable[[], Any]] = {
            "kernels": lambda: kernels(options.seconds),
            "copies": lambda: copies(folder),
            "workers": lambda: workers(folder),
            "memory": lambda: memory(folder),
            "build": lambda: build(folder, options.clips),
        }
        results |= {part: ways[part]() for part in options.parts}
    table = Table("figure", "value")
    for key, value in figures(results).items():
        table.add_row(key, f"{value:.3g}")
    Console().print(table)
    versions = environment(("numpy", "scipy", "scikit-image", "opencv-python-headless", "av", "pillow"))
    # a part that is not run keeps what it has
    commands = before.get("commands", {}) | dict.fromkeys(options.parts, versions.pop("command"))
    report = {"commands": commands, **versions, "results": results, "figures": figures(results)}
    write("data_engine", report)


def figures(results: dict[str, Any]) -> dict[str, float]:
    """The figures that matter."""
    ratios = [kind["ratio"] for kind in results["kernels"].values()]
    return {
        "kernels, median": statistics.median(ratios),
        "kernels, least": min(ratios),
        "copies / bare, median": statistics.median(results["copies"].values()),
        "copies / bare, most": max(results["copies"].values()),
        "two workers": results["workers"]["ratio"],
        "two processes of the standard library": results["workers"]["bare ratio"],
        "memory, 300 s / 10 s": results["memory"]["ratio"],
        "build: files that differ": results["build"]["differ"],
    }


def scene(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Frames of moving waves with some texture."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    texture = np.random.default_rng(0).normal(0, 8, (*size, 3))
    frames = []
    for t in range(number):
        waves = [np.sin((columns + 9 * t) / period + rows / (2 * period)) for period in (37.0, 61.0, 23.0)]
        frames.append(128 + 80 * np.stack(waves, axis=-1) + texture)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def kernels(seconds: float) -> dict[str, dict[str, float]]:
    """Seconds a frame of both forms, and their ratio."""
    part = scene(PART)
    found = {}
    for name in PLAIN:
        distortion = DISTORTIONS[name]()
        level = distortion.drawn_levels[len(distortion.drawn_levels) // 2]
        pairs = [(ours(name, level, part, seconds), plain(name, level, part, seconds)) for _ in range(3)]
        one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        found[name] = {"ours": round(one, 5), "plain": round(other, 5), "ratio": round(other / one, 2)}
        sys.stderr.write(f"{name} {found[name]}\n")
    return found


def ours(name: str, level: int, part: np.ndarray, seconds: float) -> float:
    """Seconds a frame of a clip of 120 frames, what is drawn for it included."""
    start = time.perf_counter()
    apply = DISTORTIONS[name]().begin(level, SIZE, np.random.default_rng(0))
    number = 0
    while number < NUM_FRAMES and (not number or time.perf_counter() - start < seconds):
        apply(part)
        number += len(part)
    spent = time.perf_counter() - start
    return spent / number


def plain(name: str, level: int, part: np.ndarray, seconds: float) -> float:
    """Likewise of the plain form."""
    value = DISTORTIONS[name]().levels[level - 1]  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    number = 0
    while number < 2 or (number < NUM_FRAMES and time.perf_counter() - start < seconds):
        distort_plainly(name, part[number % len(part)], value, rng)
        number += 1
    return (time.perf_counter() - start) / number


def make_clip(path: Path, number: int, size: tuple[int, int], fps: int = 30) -> Path:
    """A clip of a scene that repeats."""
    frames = scene(min(number, 16), size)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=fps, options={"preset": "veryfast"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for index in range(number):
            frame = av.VideoFrame.from_ndarray(frames[index % len(frames)], format="rgb24")
            frame.pts = index
            frame.time_base = Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def bare(path: Path, out: Path) -> None:
    """Decode and encode, with the encoder that copies have, and one thread as they have."""
    encoding = Encoding()
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        video = source.streams.video[0]
        video.codec_context.thread_count = 1
        stream: Any = target.add_stream(
            encoding.codec, rate=video.average_rate, options=dict(encoding.options)
        )
        stream.width = video.width
        stream.height = video.height
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = video.time_base
        for frame in source.decode(video):
            target.mux(stream.encode(frame))
        target.mux(stream.encode())


def timed(work: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def copies(folder: Path) -> dict[str, float]:
    """Seconds of a distorted copy over those of a bare one, of a second of 1080p."""
    path = make_clip(folder / "hd.mp4", 30, SIZE)
    found = {}
    for name in CHEAP:
        distortion = DISTORTIONS[name]()
        level = distortion.drawn_levels[0]
        ratios = []
        for _ in range(3):
            rng = np.random.default_rng(0)
            seconds = timed(partial(distort_file, path, folder / "copy.mp4", distortion, level, rng))
            ratios.append(seconds / timed(partial(bare, folder / "copy.mp4", folder / "bare.mp4")))
        found[name] = round(statistics.median(ratios), 3)
    return found


def workers(folder: Path) -> dict[str, float]:
    """Seconds of eight copies by one process and by two, ours and the standard library's; all have started.

    What two processes gain at all is the machine's: cores that share caches and memory are no two machines.
    """
    path = str(make_clip(folder / "vga.mp4", 60, (480, 640)))
    readers = {number: GuardedReader(num_workers=number) for number in (1, 2)}
    pools = {number: ProcessPoolExecutor(number, multiprocessing.get_context("spawn")) for number in (1, 2)}
    spent: dict[str, list[float]] = {f"{way} {number}": [] for way in ("ours", "bare") for number in (1, 2)}
    names = [str(folder / f"copy-{i}") for i in range(8)]
    ways: dict[str, Callable[[int], object]] = {
        "ours": lambda number: list(readers[number].run([(copy_to(name), path) for name in names])),
        "bare": lambda number: copy_all(pools[number], names, path),
    }
    for repeat in range(7):
        # whoever comes after one process finds the other core asleep: the two take turns at that
        order = list(ways) if repeat % 2 else list(ways)[::-1]
        for number in (1, 2):
            for way in order:
                seconds = timed(partial(ways[way], number))
                forget(names)
                if repeat:  # the first starts the processes
                    spent[f"{way} {number}"].append(seconds)
    for pool in pools.values():
        pool.shutdown()
    medians = {name: statistics.median(values) for name, values in spent.items()}
    return {name: round(value, 3) for name, value in medians.items()} | {
        "ratio": round(medians["ours 1"] / medians["ours 2"], 3),
        "bare ratio": round(medians["bare 1"] / medians["bare 2"], 3),
    }


def forget(names: list[str]) -> None:
    """Remove copies, and let what is still to be written be written: the next ones do not wait for it."""
    for name in names:
        Path(f"{name}.mp4").unlink()
    os.sync()


def copy_to(name: str) -> partial[str | None]:
    """The job that writes one noisy copy."""
    return partial(write_copy, out=f"{name}.mp4", item="white_noise", level=3, seed=(0,))


def copy_all(pool: ProcessPoolExecutor, names: list[str], path: str) -> None:
    """The same copies by processes of the standard library."""
    for waiting in [pool.submit(copy_to(name), path) for name in names]:
        fault = waiting.result()
        assert fault is None, fault


def memory(folder: Path) -> dict[str, float]:
    """Peak megabytes of a process that distorts a short and a long video."""
    peaks = {}
    for seconds in (10, 300):
        path = make_clip(folder / f"{seconds}.mp4", 25 * seconds, (144, 256), fps=25)
        program = (
            "import sys, numpy as np; from vqathinker.distortions import DISTORTIONS; "
            "from vqathinker.distortions.copies import distort_file; "
            "distort_file(sys.argv[1], sys.argv[2], DISTORTIONS['darken'](), 3, np.random.default_rng(0)); "
            "print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        command = [sys.executable, "-c", program, str(path), str(folder / "long.mp4")]
        found = [
            int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)
        ]
        peaks[seconds] = statistics.median(found) / 1024
    return {
        "10 s": round(peaks[10], 1),
        "300 s": round(peaks[300], 1),
        "ratio": round(peaks[300] / peaks[10], 4),
    }


def build(folder: Path, number: int) -> dict[str, Any]:
    """Files that differ between a build that was killed, one that was not, and a second one."""
    media = folder / "media"
    media.mkdir()
    source = make_clip(folder / "tiny.mp4", 8, (48, 64))
    for index in range(number):
        (media / f"{index:05d}.mp4").write_bytes(source.read_bytes())
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    command = [sys.executable, "-c", BUILD, str(recipe), str(media)]
    seconds = timed(partial(subprocess.run, [*command, str(folder / "through")], check=True))
    kills = 0
    rng = np.random.default_rng(0)
    while kills < KILLS:
        process = subprocess.Popen([*command, str(folder / "killed")], start_new_session=True)
        try:
            process.wait(1.5 + 1.5 * rng.random())
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    subprocess.run([*command, str(folder / "killed")], check=True)
    subprocess.run([*command, str(folder / "again")], check=True)
    through, *others = (contents(folder / name) for name in ("through", "killed", "again"))
    differ = sum(len({*through.items()} ^ {*other.items()}) for other in others)
    samples = through["samples.jsonl"].count(b"\n")
    return {
        "clips": number,
        "samples": samples,
        "kills": kills,
        "seconds": round(seconds, 1),
        "differ": differ,
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a build by its name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
