"""Peak memory of one update, against TRL's own trainer, row by row.

python benchmarks/bench_memory.py

Same process, same weights, same rows (P=1600, R=200, K=4), with and without gradient checkpointing; writes
benchmarks/results/memory.json. The peak is that of the process's resident memory (Linux) above what it holds
before the update: activations and gradients. The second ratio adds the weights of policy and reference. With
`--check` nothing is written, and the command fails if a ratio is over a fifth worse than the stored one.
"""

from __future__ import annotations

import ctypes
import gc
import tempfile
from pathlib import Path
from typing import Any

from bench_train_step import COMPLETION, NUM_ROWS, PROMPT, WORKLOAD, step
from common import arguments, check, environment, write
from rich.console import Console
from rich.table import Table
from workload import Ours, Rows, Stock, build_middle, make_rows

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
MIB = 2**20


def main() -> None:
    """Measure both sides, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--check", action="store_true", help="compare with the stored ratios, one peak a side"
    )
    options = parser.parse_args()
    repeats = 1 if options.check else options.repeats
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = build_middle(Path(folder))
        for name, checkpointing in (("plain", False), ("gradient checkpointing", True)):
            results[name] = measure(checkpoint, checkpointing, repeats)
    table = Table("", "ours, MiB", "TRL, MiB", "ours / TRL", "with weights")
    for name, row in results.items():
        table.add_row(
            name,
            *(f"{row['peak_mib'][side]:.0f}" for side in ("ours", "stock")),
            *(f"{row[key]:.3f}" for key in ("update_ratio", "total_ratio")),
        )
    Console().print(table)
    if options.check:
        check("memory", results, figures, less=figures(results))
        return
    versions = environment(("torch", "transformers", "trl"))
    write("memory", {"environment": versions, "workload": WORKLOAD, "results": results})


def figures(results: dict[str, Any]) -> dict[str, float]:
    """Ours over TRL's, with and without gradient checkpointing."""
    return {name: row["update_ratio"] for name, row in results.items()}


def measure(checkpoint: Path, checkpointing: bool, repeats: int) -> dict[str, Any]:
    """Peaks of both sides; the smallest of several, since a process can only hold too much."""
    sides = {side.__name__.lower(): side(checkpoint) for side in (Ours, Stock)}
    rows = make_rows(sides["ours"].trainer.processor, PROMPT, COMPLETION, NUM_ROWS)
    for side in sides.values():
        if checkpointing:
            side.model.gradient_checkpointing_enable({"use_reentrant": False})
    peaks = {name: min(peak(side, rows) for _ in range(repeats)) for name, side in sides.items()}
    weights = sum(p.numel() * p.element_size() for p in sides["ours"].model.parameters()) / MIB
    held = 2 * weights  # the policy's and the reference's; gradients are made in the update
    ours = peaks["ours"]
    stock = peaks["stock"]
    return {
        "peak_mib": peaks,
        "weights_mib": weights,
        "update_ratio": ours / stock,
        "total_ratio": (ours + held) / (stock + held),
    }


def peak(side: Ours | Stock, rows: Rows) -> float:
    """MiB above what is held before: activations and gradients."""
    side.model.zero_grad()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    CLEAR.write_text(RESET_PEAK)
    before = held("VmRSS")
    step(side, rows)
    top = held("VmHWM") - before
    side.model.zero_grad()
    return top


def held(name: str) -> float:
    """A memory figure of this process in MiB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
