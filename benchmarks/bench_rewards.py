"""Seconds per call of the rewards, beside a plain double loop over videos on the same input.

Launch: python benchmarks/bench_rewards.py

Every call gets a fresh batch, so nothing remembered from the call before is counted.
The loop is the ranking reward written for one response and one opponent at a time. At 1024 x 16 it judges
the first 16 videos only and its time is scaled by 64; the report says so.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from common import environment, write
from rich.console import Console
from rich.table import Table

from rewards import load
from vqathinker import answers
from vqathinker.types import RolloutBatch

SHAPES = {(64, 4): (200, 64), (1024, 16): (15, 16)}  # (N, K): runs, videos that the loop judges
DATASETS = (1, 4)  # data sets that share the batch
REWARDS = ("format", "regression", "ranking", "temporal")
SEED = 0
EPS = 1e-6


def batch_of(num_videos: int, num_responses: int, num_datasets: int) -> RolloutBatch:
    """Return a batch of two-decimal scores around random targets, 3 % of the responses broken, with twins."""
    rng = np.random.default_rng(SEED)
    target = rng.uniform(1, 5, num_videos)
    noise = rng.normal(0, 0.5, (2, num_videos, num_responses))
    broken = rng.random(noise.shape) < 0.03
    texts = [
        [
            [
                "no answer" if bad else answers.render("slight blur", g + e)
                for e, bad in zip(row, bads, strict=True)
            ]
            for g, row, bads in zip(target, copy, flags, strict=True)
        ]
        for copy, flags in zip(noise, broken, strict=True)
    ]
    names = [f"data set {i % num_datasets}" for i in range(num_videos)]
    return RolloutBatch.from_texts(texts[0], target, dataset=names, perturbed=texts[1])


def loop_ranking(batch: RolloutBatch, num_videos: int) -> list[list[float]]:
    """Return the ranking rewards of the first videos, one response and one opponent at a time."""
    valid = [[s for s in row if not math.isnan(s)] for row in batch.scores.tolist()]
    variance = [statistics.variance(row) if len(row) > 1 else 0.0 for row in valid]
    mean = [statistics.fmean(row) if row else math.nan for row in valid]
    target = batch.target.tolist()
    scores = batch.scores.tolist()
    rewards = []
    for i in range(num_videos):
        others = [
            j for j in range(batch.num_videos) if j != i and valid[j] and batch.dataset[j] == batch.dataset[i]
        ]
        row = []
        for score in scores[i]:
            total = 0.0
            for j in others if not math.isnan(score) else []:
                z = (score - mean[j]) / math.sqrt(variance[i] + variance[j] + EPS)
                p = 0.5 * math.erfc(-z / math.sqrt(2))
                h = 0.5 if target[i] == target[j] else float(target[i] > target[j])
                total += math.sqrt(p * h + EPS) + math.sqrt((1 - p) * (1 - h) + EPS)
            row.append(total / max(len(others), 1))
        rewards.append(row)
    return rewards


def milliseconds(function: Callable[[RolloutBatch], object], batch: RolloutBatch, runs: int) -> list[float]:
    """Return the sorted wall-clock milliseconds of `runs` calls, each on a copy of the batch."""
    taken = []
    for _ in range(runs + 1):
        fresh = replace(batch)
        start = time.perf_counter()
        function(fresh)
        taken.append(1e3 * (time.perf_counter() - start))
    return sorted(taken[1:])


def measure(num_videos: int, num_responses: int, num_datasets: int) -> dict[str, Any]:
    """Return the times for one shape, after checking the vectorised ranking against the loop."""
    batch = batch_of(num_videos, num_responses, num_datasets)
    runs, num_looped = SHAPES[num_videos, num_responses]
    rewards = {name: load(name) for name in REWARDS}
    np.testing.assert_allclose(
        rewards["ranking"](batch)[:num_looped], loop_ranking(batch, num_looped), atol=1e-9
    )
    times = {name: milliseconds(reward, batch, runs) for name, reward in rewards.items()}
    times["all four"] = milliseconds(lambda fresh: [r(fresh) for r in rewards.values()], batch, runs)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    loop = statistics.median(milliseconds(lambda fresh: loop_ranking(fresh, num_looped), batch, 3))
    loop *= num_videos / num_looped
    return {
        "shape": [num_videos, num_responses],
        "datasets": num_datasets,
        "runs": runs,
        "median_ms": {name: round(median, 4) for name, median in medians.items()},
        "minimum_ms": {name: round(taken[0], 4) for name, taken in times.items()},
        "loop_ranking_ms": round(loop, 2),
        "loop_videos_measured": num_looped,
        "loop_over_ranking": round(loop / medians["ranking"], 1),
    }


def main() -> None:
    """Measure, print a table, write the report."""
    load_average = os.getloadavg()[0]  # of the minute before: 0 on an idle machine
    cases = [measure(*shape, num_datasets) for shape in SHAPES for num_datasets in DATASETS]
    report = {
        **environment(["numpy", "scipy"]),
        "load_average": round(load_average, 2),
        "seed": SEED,
        "unit": "milliseconds",
        "cases": cases,
    }
    table = Table(
        *("N x K", "data sets", *REWARDS, "all four", "loop (ranking)", "loop / ranking"),
        title="ms per call, median (minimum)",
    )
    for case in cases:
        shape = " x ".join(map(str, case["shape"]))
        times = [
            f"{case['median_ms'][name]:.2f} ({case['minimum_ms'][name]:.2f})" for name in case["median_ms"]
        ]
        scaled = "" if case["loop_videos_measured"] == case["shape"][0] else " (scaled)"
        loop = f"{case['loop_ranking_ms']:.0f}{scaled}"
        ratio = f"{case['loop_over_ranking']:.0f}"
        table.add_row(shape, str(case["datasets"]), *times, loop, ratio)
    Console(width=150).print(table)
    write("rewards", report)


if __name__ == "__main__":
    main()
