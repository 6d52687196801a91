"""The whole way on a laptop: a small world of rated clips, a base model, SFT beside GRPO.

    python recipes/demo.py --out out/demo --seed 0

The base sees distortions and names them, but has no opinion. The same labels then teach it what observers
mind, once by supervised tuning, on its own descriptions with the observers' scores, and once by GRPO with all
four rewards. Writes to the output directory: `world/` (clips and labels), `sft/` and `grpo/` (adapters in
`final/`, whole checkpoints in `merged/`), `scores/` (predictions and metrics), `plots/`, `responses.md` and
`summary.json`. The same line continues an interrupted demo and shows a finished one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from world import SCORED, SETS_FILE, make_world
from world.plots import TITLES, plot_all, write_responses
from world.reasoning import exchange
from world.runs import METRICS, add_reasoning, call, evaluate, read_log, train
from world.starts import BASE

RECIPES = Path(__file__).parent
DESCRIBED = "described.csv"
MERGED = "merged"
Found = tuple[dict[str, Any], dict[str, Any]]
WORLD_SEED = 2  # the settings were chosen in world 0, and seen once in world 1


class Engine(StrEnum):
    """Of the rollouts; vLLM must be installed."""

    HF = "hf"
    VLLM = "vllm"


def main(
    out: Annotated[Path, typer.Option(help="output folder")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="of the training; the clips stay the same")] = 0,
    world: Annotated[Path | None, typer.Option(help="folder of the clips; OUT/world if omitted")] = None,
    engine: Annotated[Engine, typer.Option(help="of the rollouts")] = Engine.HF,
) -> None:
    """Run what has not been run, print one table, write the plots."""
    world = world or out / "world"
    require_same(out, {"seed": seed, "engine": engine.value})
    if not (out / "summary.json").exists():
        run(out, world, seed, engine)
    show(json.loads((out / "summary.json").read_text()), out)


def require_same(out: Path, settings: dict[str, Any]) -> None:
    """Take an output folder over for a demo with these settings, or leave if it is of another one."""
    file = out / "demo.json"
    for earlier in (file, out / "summary.json"):
        before = json.loads(earlier.read_text()) if earlier.exists() else settings
        if {name: before[name] for name in settings} != settings:
            begun = f"seed {before['seed']} and engine {before['engine']}"
            raise typer.BadParameter(f"{out} holds a demo of {begun}; choose another folder (--out)")
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings) + "\n")


def run(out: Path, world: Path, seed: int, engine: Engine) -> None:
    """Run the stages that have not finished and write the summary."""
    seconds: dict[str, float] = {}
    with stage("clips", seconds):
        ceilings = make_world(world, seed=WORLD_SEED)
    with stage("base", seconds), ThreadPoolExecutor() as pool:
        scores = pool.submit(score, BASE, world, out / "scores/base")
        add_reasoning(BASE, world / "train.csv", world, out / DESCRIBED)
        found = {"base": scores.result()}
    show_results({"base": found["base"][0]}, ceilings)  # something to see before the training ends
    with stage("SFT and GRPO, one core each", seconds), ThreadPoolExecutor() as pool:
        learned = {
            name: pool.submit(learn, name, world, out, seed, engine, shown=name == "grpo")
            for name in ("sft", "grpo")
        }
        found |= {name: one.result() for name, one in learned.items()}
    steps, _ = read_log(out / "grpo")
    summary = {
        "seed": seed,
        "engine": engine.value,
        "results": {name: results for name, (results, _) in found.items()},
        "ceilings": ceilings,
        "reasoning": {name: exchanged for name, (_, exchanged) in found.items()},
        "rewards": [step["reward"] for step in steps],
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    plot_all(out)
    write_responses(out)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def learn(name: str, world: Path, out: Path, seed: int, engine: Engine, *, shown: bool) -> Found:
    """Train an adapter of the base on the labels in one of two ways, merge it and score the sets."""
    folder = out / name
    options = ["--eval_labels", world / "val.csv", "--eval_videos", world]
    if (name, engine) == ("grpo", Engine.VLLM):
        options += ["--use_vllm", "true"]
    labels = out / DESCRIBED if name == "sft" else world / "train.csv"
    settings = [RECIPES / f"demo_{name}.yaml"]
    train(name, settings, BASE, labels, world, folder, *options, seed=seed, shown=shown)
    if not (folder / MERGED).exists():
        call("merge", folder / "final", folder / MERGED, shown=False)
    return score(folder / MERGED, world, out / "scores" / name)


def score(checkpoint: Path, world: Path, out: Path) -> Found:
    """What a model reaches on each set, and what is left of it after the reasoning of other clips."""
    results = evaluate(checkpoint, world / SETS_FILE, out)
    return results, exchange(checkpoint, out / "test")


@contextmanager
def stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Announce a stage and note its seconds."""
    sys.stderr.write(f"\n== {name} ==\n")
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def show(summary: dict[str, Any], out: Path) -> None:
    """Print the table of a finished demo."""
    show_results(summary["results"], summary["ceilings"])
    tenth = max(1, len(summary["rewards"]) // 10)
    first, last = (sum(part) / tenth for part in (summary["rewards"][:tenth], summary["rewards"][-tenth:]))
    seconds = summary["seconds"]
    console = Console()
    exchanged = [
        f"{TITLES[name]} {found['other']:.3f} (own: {found['own']:.3f})"
        for name, found in summary["reasoning"].items()
    ]
    console.print(f"in-domain SRCC after the reasoning of another clip: {', '.join(exchanged)}")
    console.print(f"GRPO's reward, first and last tenth of its steps: {first:.3f} → {last:.3f}")
    console.print(f"{sum(seconds.values()):.0f} s in all: {seconds}; everything is in {out}")


def show_results(results: dict[str, Any], ceilings: dict[str, Any]) -> None:
    """Print a row per set and metric, a column per model."""
    table = Table("set", "", *(TITLES[model] for model in results), "ideal scorer")
    for name in SCORED:
        for metric in METRICS:
            cells = [f"{found[name][metric]:.3f}" for found in results.values()]
            ideal = ceilings[name].get(metric)
            table.add_row(name, metric.upper(), *cells, "" if ideal is None else f"{ideal:.3f}")
        table.add_row("", "distinct scores", *(str(found[name]["distinct"]) for found in results.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
