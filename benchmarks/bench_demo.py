"""The demo over several seeds: how far GRPO lifts the test correlations above the warm start.

python benchmarks/bench_demo.py --out out/bench_demo

The clips are the same for every seed; the model's weights, the order of the data and the sampling differ.
Each seed is a run of `recipes/demo.py`, and a second one from the same warm start with rollouts by vLLM.
Finished runs are kept, so an interrupted command can be repeated.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from common import arguments, environment, write
from rich.console import Console
from rich.table import Table
from scipy.stats import t

DEMO = Path(__file__).parents[1] / "recipes" / "demo.py"
METRICS = ("srcc", "plcc")
ENGINES = ("hf", "vllm")


def main() -> None:
    """Run the missing seeds, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench_demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    runs = [run(options.out, seed, engine) for engine in ENGINES for seed in options.seeds]
    by_hf, by_vllm = ([r for r in runs if r["engine"] == engine] for engine in ENGINES)
    differences = [
        new - old
        for one, other in zip(by_hf, by_vllm, strict=True)
        for old, new in zip(one["reward_tenths"], other["reward_tenths"], strict=True)
    ]
    report = {
        "environment": environment(("torch", "transformers", "trl")),
        "runs": runs,
        "gain": {name: gain(by_hf, name) for name in METRICS},
        "every_reward_rises": all(r["reward_tenths"][-1] > r["reward_tenths"][0] for r in runs),
        "reward_vllm_minus_hf": {
            "mean": sum(differences) / len(differences),
            "largest": max(differences, key=abs),
        },
    }
    show(report)
    write("demo", report)


def run(out: Path, seed: int, engine: str) -> dict:
    """Run the demo for one seed unless it has finished, and return its summary.

    The runs of one seed share the warm start.
    """
    directory = out / (f"seed{seed}" if engine == "hf" else f"seed{seed}-{engine}")
    summary = directory / "summary.json"
    if not summary.exists():
        if engine != "hf":
            shutil.copytree(out / f"seed{seed}" / "sft", directory / "sft", dirs_exist_ok=True)
        command = [sys.executable, str(DEMO), "--out", str(directory), "--data", str(out / "data")]
        subprocess.run([*command, "--seed", str(seed), "--engine", engine], check=True)
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
        "seed",
        "engine",
        "SRCC before",
        "SRCC after",
        "PLCC before",
        "PLCC after",
        "reward, first → last tenth",
    )
    for r in report["runs"]:
        cells = [f"{r[stage][name]['value']:.3f}" for name in METRICS for stage in ("before", "after")]
        rewards = f"{r['reward_tenths'][0]:.3f} → {r['reward_tenths'][-1]:.3f}"
        table.add_row(str(r["seed"]), r["engine"], *cells, rewards)
    console = Console()
    console.print(table)
    for name, value in report["gain"].items():
        console.print(
            f"{name.upper()} gain (hf) {value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"
        )


if __name__ == "__main__":
    main()
