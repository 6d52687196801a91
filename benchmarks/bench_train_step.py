"""One update (reference pass, policy forward and backward) against TRL's own trainer, row by row.

python benchmarks/bench_train_step.py

Same process, same weights, same rows; prints ratios of medians and writes benchmarks/results/train_step.json:
the update at P=1600, R=200, K=4, the same with a dense mask over the packed row, and its growth with K and
with P. Loss, gradient norm and gradients of both sides are compared too. With `--check` nothing is written:
the update and the dense mask are timed twice, and the command fails if a ratio is over a fifth worse than the
stored one, or a gradient more than 1e-4 off. Rounding in float32 puts the two orders of summation about 1e-5
apart, a little more or less on another processor; a fault shows in the first digits.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import arguments, check, environment, write
from rich.console import Console
from rich.table import Table
from workload import Ours, Rows, Stock, build_middle, gradients, largest_difference, make_rows

PROMPT = 1600
COMPLETION = 200
NUM_ROWS = 4
WORKLOAD = {"prompt_tokens": PROMPT, "completion_tokens": COMPLETION, "completions": NUM_ROWS}
RATIOS = {
    "TRL / ours": ("stock", "ours"),
    "dense mask / ours": ("dense", "ours"),
    "K=16 / K=4": ("K=16", "ours"),
    "P=3200 / P=800": ("P=3200", "P=800"),
}
CHECKED = ("TRL / ours", "dense mask / ours")
CHECK_REPEATS = 1
DIFFERENCE = "largest_gradient_difference"
LARGEST_DIFFERENCE = 1e-4


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="compare with the stored ratios, in minutes")
    options = parser.parse_args()
    wanted = CHECKED if options.check else tuple(RATIOS)
    repeats = CHECK_REPEATS if options.check else options.repeats
    with tempfile.TemporaryDirectory() as folder:
        for results in measure(build_middle(Path(folder)), wanted, repeats):
            if not options.check:
                write(
                    "train_step",
                    {
                        "environment": environment(("torch", "transformers", "trl")),
                        "workload": WORKLOAD,
                        "results": results,
                    },
                )
    table = Table("figure", "value")
    for name, value in figures(results).items():
        table.add_row(name, f"{value:.3g}")
    Console().print(table)
    if options.check:
        check("train_step", results, figures, more=CHECKED, limits={DIFFERENCE: LARGEST_DIFFERENCE})


def figures(results: dict[str, Any]) -> dict[str, float]:
    """The ratios that were measured, and how far the gradients are apart."""
    return {name: results[name] for name in (*RATIOS, DIFFERENCE) if name in results}


def measure(checkpoint: Path, wanted: Sequence[str], repeats: int) -> Iterator[dict[str, Any]]:
    """Compare gradients once, then time what the wanted ratios need in turn; yield what each round adds."""
    ours = Ours(checkpoint)
    dense = Ours(checkpoint, packed_attention="dense")
    stock = Stock(checkpoint)

    def rows(length: int = PROMPT, count: int = NUM_ROWS) -> Rows:
        return make_rows(ours.trainer.processor, length, COMPLETION, count)

    same = compare(ours, stock, rows())
    calls = {
        "ours": partial(step, ours, rows()),
        "dense": partial(step, dense, rows()),
        "stock": partial(step, stock, rows()),
        "K=16": partial(step, ours, rows(count=16)),
        "P=800": partial(step, ours, rows(800)),
        "P=3200": partial(step, ours, rows(3200)),
    }
    needed = {side for ratio in wanted for side in RATIOS[ratio]}
    calls = {name: call for name, call in calls.items() if name in needed}
    weights = sum(p.numel() for p in ours.model.parameters())
    for seconds in timed(calls, repeats):
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        ratios = {}
        for name in wanted:
            slower, faster = RATIOS[name]
            ratios[name] = medians[slower] / medians[faster]
        yield {"weights": weights, **same, **ratios, "seconds": seconds}


def compare(ours: Ours, stock: Stock, rows: Rows) -> dict[str, Any]:
    """Loss, gradient norm and the largest difference of a gradient, relative to its largest entry."""
    losses = {}
    norms = {}
    found = {}
    for name, side in (("ours", ours), ("stock", stock)):
        losses[name] = step(side, rows)
        found[name] = gradients(side.model)
        norms[name] = float(torch.stack([g.norm() for g in found[name].values()]).norm())
    difference = largest_difference(found["ours"], found["stock"])
    return {"loss": losses, "gradient_norm": norms, DIFFERENCE: difference}


def step(side: Ours | Stock, rows: Rows) -> float:
    """Reference pass, loss and backward; returns the loss."""
    side.model.zero_grad()
    loss = side.loss(rows)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


def timed(calls: dict[str, Callable[[], object]], repeats: int) -> Iterator[dict[str, list[float]]]:
    """Yield the seconds so far of every call after each round, but for the first, which does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
        if len(seconds[name]) > 1:
            yield {name: values[1:] for name, values in seconds.items()}


if __name__ == "__main__":
    main()
