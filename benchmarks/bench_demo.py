"""The demo over several seeds: how far GRPO lifts the test correlations above the warm start.

python benchmarks/bench_demo.py --out out/bench_demo

The clips are the same for every seed; the model's weights, the order of the data and the sampling differ.
Each seed is a run of `recipes/demo.py`; finished seeds are kept, so an interrupted command can be repeated.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from common import environment, write
from rich.console import Console
from rich.table import Table
from scipy.stats import t

DEMO = Path(__file__).parents[1] / "recipes" / "demo.py"
METRICS = ("srcc", "plcc")


def main() -> None:
    """Run the missing seeds, print a table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/bench_demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    runs = [run(options.out, seed) for seed in options.seeds]
    report = {
        "environment": environment(("torch", "transformers", "trl")),
        "command": "python benchmarks/bench_demo.py",
        "runs": runs,
        "gain": {name: gain(runs, name) for name in METRICS},
        "every_reward_rises": all(r["reward_last_tenth"] > r["reward_first_tenth"] for r in runs),
    }
    show(report)
    write("demo", report)


def run(out: Path, seed: int) -> dict:
    """Run the demo for one seed unless it has finished, and return its summary."""
    directory = out / f"seed{seed}"
    summary = directory / "summary.json"
    if not summary.exists():
        command = [
            sys.executable,
            str(DEMO),
            "--out",
            str(directory),
            "--data",
            str(out / "data"),
            "--seed",
            str(seed),
        ]
        subprocess.run(command, check=True)
    return {key: value for key, value in json.loads(summary.read_text()).items() if key != "seconds"}


def gain(runs: list[dict], name: str) -> dict[str, float]:
    """Mean difference after − before over the seeds with its 95 % t interval."""
    values = [r["after"][name]["value"] - r["before"][name]["value"] for r in runs]
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    half = float(t.ppf(0.975, len(values) - 1)) * spread / len(values) ** 0.5
    return {"mean": mean, "low": mean - half, "high": mean + half}


def show(report: dict) -> None:
    """Print one row per seed and the mean gain."""
    table = Table(
        "seed", "SRCC before", "SRCC after", "PLCC before", "PLCC after", "reward, first → last tenth"
    )
    for r in report["runs"]:
        cells = [f"{r[stage][name]['value']:.3f}" for name in METRICS for stage in ("before", "after")]
        rewards = f"{r['reward_first_tenth']:.3f} → {r['reward_last_tenth']:.3f}"
        table.add_row(str(r["seed"]), *cells, rewards)
    console = Console()
    console.print(table)
    for name, value in report["gain"].items():
        console.print(f"{name.upper()} gain {value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]")


if __name__ == "__main__":
    main()
