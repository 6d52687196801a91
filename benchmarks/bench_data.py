"""Reading videos: our reader against decord's bare `get_batch`, and how long training waits for it.

python benchmarks/bench_data.py

Synthesises 1080p H.264 clips; writes benchmarks/results/data.json. The first part reads 6 keyframes of every
clip with decord alone (open, `get_batch`), with our reader (checks, sampling, orientation, resize to 448²)
and with our reader in a guarded process, which hands the frames over; and looks at the packets with and
without what tells misflagged keyframes and hidden frames (`checks / ours`). The second trains for some steps
on these clips through the real trainer and reports `seconds/data_wait` as a share of the step's time. With
`--check` nothing is written, and the command fails if the first ratio is over a fifth worse than the stored
one or a share (of the checks, of waiting) above 5 %.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
import torch
from common import arguments, check, environment, write
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from workload import MIDDLE

from rewards import FormatReward
from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.media.clips import read_clip
from vqathinker.media.container import probe
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.video import Clip, keyframe_indices, read_keyframes
from vqathinker.training import TrainingConfig, VQAThinkerTrainer
from vqathinker.types import FrameSetting

NUM_FRAMES = 6
SIDE = 448
WIDTH = 1920
HEIGHT = 1080
FPS = 30
CHECKED = {"clips": 4, "repeats": 2, "steps": 3}
LIMITS = {"data_wait_share": 0.05, "checks / ours": 0.05}


def main() -> None:
    """Measure both parts, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument(
        "--check", action="store_true", help="compare with the stored ratio, in a minute or two"
    )
    options = parser.parse_args()
    if options.check:
        parser.set_defaults(**CHECKED)
        options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = [make_clip(folder / f"{i}.mp4", options.seconds * FPS, i) for i in range(options.clips)]
        results = {
            "reader": reader(folder, clips, options.repeats),
            "training": training(folder, clips, options.steps),
        }
    table = Table("figure", "value")
    for key, number in figures(results).items():
        table.add_row(key, f"{number:.3g}")
    Console().print(table)
    if options.check:
        check("data", results, figures, less=["ours / decord"], limits=LIMITS)
        return
    versions = environment(("torch", "decord", "av", "trl"))
    clip = {"width": WIDTH, "height": HEIGHT, "fps": FPS, "seconds": options.seconds, "number": options.clips}
    write("data", {"environment": versions, "clips": clip, "results": results})


def figures(results: dict[str, Any]) -> dict[str, float]:
    """What is one number, of both parts."""
    numbers = [item for part in results.values() for item in part.items()]
    return {name: value for name, value in numbers if isinstance(value, float)}


def make_clip(
    path: Path, num_frames: int, seed: int, *, size: tuple[int, int] = (WIDTH, HEIGHT), group: int = FPS
) -> Path:
    """Write moving, slightly noisy gradients as H.264 with a key frame every `group` frames."""
    width, height = size
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] + np.array([0, 40, 80])
    noise = rng.integers(0, 12, (height, width, 3))
    coding = {"g": str(group), "preset": "veryfast"}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options=coding)
        stream.width = width
        stream.height = height
        stream.pix_fmt = "yuv420p"
        for index in range(num_frames):
            picture = ((ramp + 4 * index) % 230 + np.roll(noise, index, axis=1)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def reader(folder: Path, clips: list[Path], repeats: int) -> dict[str, Any]:
    """Seconds per clip of every way, one thread each, in turn."""
    build_tiny(folder / "tiny", num_frames=NUM_FRAMES)
    _, processor = load_policy(folder / "tiny")
    decoders = GuardedReader(num_workers=1, time_limit=600)
    setting = FrameSetting(NUM_FRAMES, SIDE)

    def bare(path: Path) -> object:
        video = decord.VideoReader(str(path), num_threads=1)
        return video.get_batch(keyframe_indices(len(video), NUM_FRAMES)).asnumpy()

    def ours(path: Path) -> object:
        return processor.pixels(read_keyframes(path, NUM_FRAMES).frames, SIDE)

    def guarded(path: Path) -> object:
        clip = read_clip(decoders, str(path), setting)
        assert isinstance(clip, Clip)
        return processor.pixels(clip.frames, SIDE)

    def probed(path: Path) -> object:
        return probe(str(path))

    ways: dict[str, Callable[[Path], object]] = {
        "decord": bare, "ours": ours, "guarded": guarded, "probe": probed, "packets": flags_alone,
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            for path in clips:
                way(path)
            seconds[name].append((time.perf_counter() - start) / len(clips))
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    return {
        "seconds_per_clip": {name: values[1:] for name, values in seconds.items()},
        "ours / decord": medians["ours"] / medians["decord"],
        "guarded / ours": medians["guarded"] / medians["ours"],
        "checks / ours": (medians["probe"] - medians["packets"]) / medians["ours"],
    }


def flags_alone(path: Path) -> list[tuple[int | None, bool, bool]]:
    """Decode the first frame and read the times and flags of the packets, as any reader has to."""
    packets: list[tuple[int | None, bool, bool]] = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if not packets:
                packet.decode()
            if packet.size:
                packets.append((packet.pts, packet.is_keyframe, packet.is_discard))
    return packets


def training(folder: Path, clips: list[Path], num_steps: int) -> dict[str, Any]:
    """Shares of `data_wait` in the steps after the first, which nothing can be decoded ahead of."""
    checkpoint = folder / "middle"
    build_tiny(checkpoint, num_frames=NUM_FRAMES, frame_size=224, **MIDDLE)
    model, processor = load_policy(checkpoint, dtype=torch.float32)
    rows = [
        {"prompt": "", "video_id": path.stem, "dataset": "clips", "path": str(path), "target": 1 + i % 5}
        for i, path in enumerate(clips)
    ]
    args = TrainingConfig(
        output_dir=str(folder / "out"), use_cpu=True, bf16=False, report_to="none", max_steps=num_steps,
        per_device_train_batch_size=4, gradient_accumulation_steps=2, num_generations=4, logging_steps=1,
        max_completion_length=32, gradient_checkpointing=False, decode_workers=1, motion_cache_gib=0,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = VQAThinkerTrainer(
        model,
        args,
        processor=processor,
        rewards={"format": FormatReward()},
        train_dataset=Dataset.from_list(rows),
    )
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "step_time" in entry]
    shares = [entry["seconds/data_wait"] / entry["step_time"] for entry in steps]
    return {
        "first_step_share": shares[0],
        "data_wait_share": statistics.median(shares[1:]),
        "largest_later_share": max(shares[1:]),
        "step_seconds": [entry["step_time"] for entry in steps],
    }


if __name__ == "__main__":
    main()
