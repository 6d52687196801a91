"""The whole way on a laptop: synthetic clips, a small model, supervised warm start, GRPO, evaluation.

python recipes/demo.py --out out/demo --seed 0

Writes to the output directory: `data/` (clips and labels), `init/`, `sft/` and `grpo/` (checkpoints in
`final/`), `before/` and `after/` (predictions and metrics on the test split), `plots/`, `responses.md` and
`summary.json`. The same line continues an interrupted demo and shows a finished one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from synthesise import synthesise

RECIPES = Path(__file__).parent
NUM_CLIPS = {"num_train": 1000, "num_val": 120, "num_test": 480}
CORRELATIONS = ("srcc", "plcc", "krcc", "rmse")
SMOOTHING = 20  # steps per point of the reward curves
T = TypeVar("T")


def main() -> None:
    """Run every stage, print one table, write the plots."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument(
        "--seed", type=int, default=0, help="of the model and the training; the clips stay the same"
    )
    parser.add_argument("--data", type=Path, help="where the clips are or go; OUT/data if omitted")
    parser.add_argument(
        "--engine", choices=("hf", "vllm"), default="hf", help="of the rollouts; vllm must be installed"
    )
    options = parser.parse_args()
    out, data = options.out, options.data or options.out / "data"
    if not (out / "summary.json").exists():
        run(out, data, options.seed, options.engine)
    show(json.loads((out / "summary.json").read_text()), out)


def run(out: Path, data: Path, seed: int, engine: str) -> None:
    """Run the stages that have not finished and write the summary."""
    seconds: dict[str, float] = {}
    timed("clips", seconds, lambda: synthesise(data, seed=0, **NUM_CLIPS))
    timed("init", seconds, lambda: build(out / "init", seed))
    timed("sft", seconds, lambda: train("sft", out / "init", data, out / "sft", seed))
    before = timed("eval", seconds, lambda: evaluate(out / "sft/final", data, out / "before"))
    timed("grpo", seconds, lambda: train("grpo", out / "sft/final", data, out / "grpo", seed, engine))
    after = timed("eval", seconds, lambda: evaluate(out / "grpo/final", data, out / "after"))
    history = json.loads((out / "grpo/trainer_state.json").read_text())["log_history"]
    rewards = [entry["reward"] for entry in history if "reward" in entry]
    tenth = max(1, len(rewards) // 10)
    means = [sum(rewards[i : i + tenth]) / tenth for i in range(0, len(rewards) - tenth + 1, tenth)]
    summary = {
        "seed": seed,
        "engine": engine,
        "before": before["metrics"],
        "after": after["metrics"],
        "reward_tenths": [round(mean, 4) for mean in means],
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
    }
    plot(history, out)
    write_responses(out)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def timed(stage: str, seconds: dict[str, float], run: Callable[[], T]) -> T:
    """Run a stage, announce it and add up its seconds."""
    sys.stderr.write(f"\n== {stage} ==\n")
    start = time.perf_counter()
    result = run()
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
    return result


def build(directory: Path, seed: int) -> None:
    """Write the small model with random weights."""
    from vqathinker.model.tiny import build_tiny

    build_tiny(directory, seed=seed)


def train(kind: str, checkpoint: Path, data: Path, out: Path, seed: int, engine: str = "hf") -> None:
    """Launch one of the recipes on the CPU, from its start unless it has finished."""
    if (out / "final").exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    command = [
        *(
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--config_file",
            str(RECIPES / "accelerate/cpu.yaml"),
        ),
        *(str(RECIPES / f"{kind}_lsvq.py"), "--config", str(RECIPES / f"demo_{kind}.yaml")),
        *("--model_name_or_path", str(checkpoint), "--output_dir", str(out), "--seed", str(seed)),
        *("--train_labels", str(data / "train.csv"), "--train_videos", str(data)),
        *(("--eval_labels", str(data / "val.csv")) if kind == "grpo" else ()),
        *(("--use_vllm", "true") if engine == "vllm" else ()),
    ]
    subprocess.run(command, check=True)


def evaluate(checkpoint: Path, data: Path, out: Path) -> dict[str, Any]:
    """Score the test split greedily; write predictions and metrics."""
    from vqathinker import Scorer
    from vqathinker.evaluation import evaluate as evaluate_dataset
    from vqathinker.media.dataset import load_labels

    dataset = load_labels(data / "test.csv", video_dir=data, dataset="demo", scale="affine")
    with Scorer.from_pretrained(checkpoint, max_new_tokens=32, batch_size=40) as scorer:
        result = evaluate_dataset(scorer, dataset)
    result.write(out, overwrite=True)
    return json.loads((out / "summary.json").read_text())  # type: ignore[no-any-return]


def plot(history: list[dict[str, Any]], out: Path) -> None:
    """Write the reward curves, the temporal win rate, and predicted against target scores."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    (out / "plots").mkdir(exist_ok=True)
    steps = [entry for entry in history if "reward" in entry]
    names = [key for key in steps[0] if key.startswith("rewards/") and key.endswith("/mean")]
    curves = {"reward": ["reward", *names], "temporal_win_rate": ["rewards/temporal/win_rate"]}
    for name, keys in curves.items():
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        for key in keys:
            values = [entry[key] for entry in steps]
            means = [
                sum(values[max(0, i - SMOOTHING) : i + 1]) / min(i + 1, SMOOTHING + 1)
                for i in range(len(values))
            ]
            axes.plot(means, label=key.removeprefix("rewards/").removesuffix("/mean"))
        axes.set(
            title=f"{name.replace('_', ' ')}, training clips",
            xlabel="GRPO step",
            ylabel=f"mean of the last {SMOOTHING + 1} steps",
        )
        figure.legend(loc="outside right upper")  # beside the curves, whose ends it would hide
        figure.savefig(out / "plots" / f"{name}.png", dpi=120)
        plt.close(figure)
    plot_scores(out)


def plot_scores(out: Path) -> None:
    """Write predicted against target scores of the test split, before and after GRPO."""
    import pandas as pd
    from matplotlib import pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
    for axes, stage in zip(both, ("before", "after"), strict=True):
        table = pd.read_csv(out / stage / "predictions.csv")
        axes.plot([1, 5], [1, 5], color="grey", linewidth=0.8, label="equal")
        axes.scatter(table["target"], table["score"], s=9, label="a clip")
        axes.set(title=f"test clips {stage} GRPO", xlabel="target", ylabel="predicted")
    both[0].legend()
    figure.savefig(out / "plots" / "scores.png", dpi=120)
    plt.close(figure)


def write_responses(out: Path, number: int = 12) -> None:
    """Write what the model says about some test clips, before and after GRPO."""
    import pandas as pd

    before, after = (pd.read_csv(out / stage / "predictions.csv") for stage in ("before", "after"))
    lines = ["| clip | target | before GRPO | after GRPO |", "|---|---|---|---|"]
    for old, new in zip(before.head(number).itertuples(), after.head(number).itertuples(), strict=True):
        lines.append(f"| {new.video_id} | {new.target:.2f} | `{old.text}` | `{new.text}` |")
    (out / "responses.md").write_text("\n".join(lines) + "\n")


def show(summary: dict[str, Any], out: Path) -> None:
    """Print the results as one table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "after warm start", "after GRPO", title="test split, 95 % bootstrap intervals")
    for name in CORRELATIONS:
        cells = [summary[stage][name] for stage in ("before", "after")]
        table.add_row(name.upper(), *(f"{c['value']:.3f} [{c['low']:.3f}, {c['high']:.3f}]" for c in cells))
    rewards = summary["reward_tenths"]
    table.add_row("reward, first and last tenth of the steps", f"{rewards[0]:.3f}", f"{rewards[-1]:.3f}")
    console = Console()
    console.print(table)
    console.print(
        f"{sum(summary['seconds'].values()):.0f} s in all: {summary['seconds']}; everything is in {out}"
    )


if __name__ == "__main__":
    main()
