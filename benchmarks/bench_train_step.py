"""One update (reference pass, policy forward and backward) against TRL's own trainer, row by row.

python benchmarks/bench_train_step.py --repeats 5

Same process, same weights, same rows; prints ratios of medians and writes benchmarks/results/train_step.json:
the update at P=1600, R=200, K=4; the same in the other attention forms; its growth with K and with P. Loss,
gradient norm and gradients of both sides are compared as well. `--part NAME` measures one part and keeps the
others of the report.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, environment, write
from rich.console import Console
from rich.table import Table
from workload import Ours, Rows, Stock, build_middle, gradients, largest_difference, make_rows

PROMPT, COMPLETION, NUM_ROWS = 1600, 200, 4


def main() -> None:
    """Measure the parts, print a table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--part", choices=PARTS, action="append")
    options = parser.parse_args()
    path = RESULTS / "train_step.json"
    results = json.loads(path.read_text())["results"] if options.part and path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = build_middle(Path(folder))
        for part in options.part or PARTS:
            results[part] = PARTS[part](checkpoint, options.repeats)
            write(
                "train_step",
                {"environment": environment(("torch", "transformers", "trl")), "results": results},
            )
    show(results)


def update(checkpoint: Path, repeats: int) -> dict[str, Any]:
    """Ours against TRL's, in turn."""
    ours, stock = Ours(checkpoint), Stock(checkpoint)
    rows = make_rows(ours.trainer.processor, PROMPT, COMPLETION, NUM_ROWS)
    losses, norms, gradient = {}, {}, {}
    for name, side in (("ours", ours), ("stock", stock)):
        losses[name] = step(side, rows)
        gradient[name] = gradients(side.model)
        norms[name] = float(torch.stack([g.norm() for g in gradient[name].values()]).norm())
    difference = largest_difference(gradient["ours"], gradient["stock"])
    gradient.clear()
    seconds = timed({"ours": lambda: step(ours, rows), "stock": lambda: step(stock, rows)}, repeats)
    return {
        "weights": sum(p.numel() for p in ours.model.parameters()),
        "seconds": seconds,
        "speedup": statistics.median(seconds["stock"]) / statistics.median(seconds["ours"]),
        "loss": losses,
        "gradient_norm": norms,
        "largest_gradient_difference": difference,
    }


def attention(checkpoint: Path, repeats: int) -> dict[str, Any]:
    """Ours with each form of attention that has a backward pass here."""
    sides = {name: Ours(checkpoint, packed_attention=name) for name in ("segments", "dense")}
    rows = make_rows(sides["dense"].trainer.processor, PROMPT, COMPLETION, NUM_ROWS)
    seconds = timed({name: lambda side=side: step(side, rows) for name, side in sides.items()}, repeats)  # type: ignore[misc]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"seconds": seconds, "dense / segments": medians["dense"] / medians["segments"]}


def growth(checkpoint: Path, repeats: int) -> dict[str, Any]:
    """Ours with more completions and with other prompt lengths."""
    ours = Ours(checkpoint)
    processor = ours.trainer.processor
    shapes = {
        "K=4": (PROMPT, NUM_ROWS),
        "K=16": (PROMPT, 16),
        "P=800": (800, NUM_ROWS),
        "P=3200": (3200, NUM_ROWS),
    }
    rows = {name: make_rows(processor, length, COMPLETION, count) for name, (length, count) in shapes.items()}
    seconds = timed({name: lambda part=part: step(ours, part) for name, part in rows.items()}, repeats)  # type: ignore[misc]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": seconds,
        "K=16 / K=4": medians["K=16"] / medians["K=4"],
        "P=3200 / P=800": medians["P=3200"] / medians["P=800"],
    }


def step(side: Ours | Stock, rows: Rows) -> float:
    """Reference pass, loss and backward; returns the loss."""
    side.model.zero_grad()
    loss = side.loss(rows)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


def timed(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every call, in turn, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def show(results: dict[str, Any]) -> None:
    """Print the ratios."""
    table = Table("part", "ratio", "value")
    for part, values in results.items():
        for name, value in values.items():
            if isinstance(value, float):
                table.add_row(part, name, f"{value:.3g}")
    Console().print(table)


PARTS = {"update": update, "attention": attention, "growth": growth}

if __name__ == "__main__":
    main()
