"""The demo over several seeds: what GRPO and SFT make of the base, in-domain and out of domain.

python benchmarks/bench_demo.py --out out/bench_demo

The clips and the base are the same for every seed; the order of the data and the sampling differ. Scores are
read twice: as written, and as the expectation of their digits, which asks no model for one number where it
hesitates between several. Finished seeds are kept, so an interrupted command can be repeated.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from common import RECIPES, arguments, environment, write
from rich.console import Console
from rich.table import Table

from vqathinker.evaluation.ablations import estimate

DEMO = RECIPES / "demo.py"
sys.path.append(str(RECIPES))  # they are no installed package

from world import SETS_FILE  # noqa: E402
from world.runs import METRICS, evaluate  # noqa: E402
from world.starts import BASE  # noqa: E402

PAIRS = (("grpo", "base"), ("sft", "base"), ("grpo", "sft"))


def main() -> None:
    """Run the missing seeds, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench_demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    # one after the other: a demo trains twice at the same time, on a core each
    runs = [run(options.out, seed) for seed in options.seeds]
    report = {
        "environment": environment(("torch", "transformers", "trl")),
        "runs": runs,
        "differences": all_differences(runs, "results"),
        "differences of expectations": all_differences(runs, "expected"),
    }
    show(report)
    write("demo", report)


def run(out: Path, seed: int) -> dict:
    """Run the demo for one seed unless it has finished, and return its summary."""
    folder = out / f"seed{seed}"
    if not (folder / "summary.json").exists():
        command = [sys.executable, str(DEMO), "--out", str(folder), "--world", str(out / "world")]
        subprocess.run([*command, "--seed", str(seed)], check=True)
    summary = json.loads((folder / "summary.json").read_text())
    models = {"sft": folder / "sft/merged", "grpo": folder / "grpo/merged"}
    # the base is the same for all
    places = {"base": out / "expected/base"} | {name: folder / "expected" / name for name in models}
    with ThreadPoolExecutor(2) as pool:  # a core each
        found = {
            name: pool.submit(evaluate, checkpoint, out / "world" / SETS_FILE, places[name], "--expected")
            for name, checkpoint in {"base": BASE, **models}.items()
        }
        summary["expected"] = {name: one.result() for name, one in found.items()}
    rewards = np.array_split(summary.pop("rewards"), 10)
    errors = [part.std(ddof=1) / len(part) ** 0.5 for part in (rewards[0], rewards[-1])]
    return summary | {
        "reward_tenths": [round(float(part.mean()), 4) for part in rewards],
        "reward_rise_in_standard_errors": float((rewards[-1].mean() - rewards[0].mean()) / np.hypot(*errors)),
    }


def all_differences(runs: list[dict], reading: str) -> dict[str, dict]:
    """The differences of all pairs of models, by one of the readings."""
    return {f"{new} - {old}": differences([run[reading] for run in runs], new, old) for new, old in PAIRS}


def differences(results: list[dict], new: str, old: str) -> dict[str, dict[str, dict[str, float]]]:
    """For each set and metric the mean over the seeds, with its 95 % t interval, and the extremes."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in results[0][new]:
        found[name] = {}
        for metric in METRICS:
            pairs = [(r[new][name][metric], r[old][name][metric]) for r in results]
            values = np.array([after - before for after, before in pairs])
            mean = estimate(values)
            figures = {"mean": mean.value, "low": mean.low, "high": mean.high}
            figures |= {"smallest": values.min(), "largest": values.max()}
            found[name][metric] = {key: round(float(value), 4) for key, value in figures.items()}
    return found


def show(report: dict) -> None:
    """Print the correlations of each seed and the differences."""
    table = Table("seed", "set", *report["runs"][0]["results"], title="SRCC")
    for r in report["runs"]:
        for name in r["results"]["base"]:
            cells = [f"{found[name]['srcc']:.3f}" for found in r["results"].values()]
            table.add_row(str(r["seed"]), name, *cells)
    console = Console()
    console.print(table)
    for reading in ("differences", "differences of expectations"):
        for pair, sets in report[reading].items():
            for name, metrics in sets.items():
                shown = [
                    f"{m} {v['mean']:+.3f} [{v['low']:+.3f}, {v['high']:+.3f}]" for m, v in metrics.items()
                ]
                console.print(f"{reading}, {pair}, {name}: {', '.join(shown)}")


if __name__ == "__main__":
    main()
