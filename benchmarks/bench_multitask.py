"""GRPO on two tasks at once: does recognising distortions get better, and at what price for scoring?

python benchmarks/bench_multitask.py --out out/multitask

On the demo's world. A start is taught, supervised and on clips of its own, to score as the base does and to
name the strongest distortion of a clip with its degree. From there three runs of the same steps on the same
training clips: GRPO on scores and names, GRPO on scores alone, and supervised tuning on the same names and
scores, which has the answers in words that GRPO's rewards only compare. Names are asked of the test clips
(`vqathinker ask-set`), scores as in the demo. Finished runs are kept, so an interrupted command can be
repeated.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import RECIPES, arguments, environment, write
from rich.console import Console
from rich.table import Table

from vqathinker import answers
from vqathinker.choices import named as kind_of
from vqathinker.choices import said
from vqathinker.evaluation.ablations import estimate
from vqathinker.samples import Media, Sample, read_samples, write_samples

sys.path.append(str(RECIPES))  # they are no installed package

from world import SETS_FILE, make_base_set, make_world
from world.distortions import KINDS
from world.runs import DONE, add_reasoning, call, evaluate, train
from world.starts import BASE
from world.words import DEGREES, degree

WORLD_SEED = 2
NUM_TAUGHT = 1000  # clips of the start
QUESTION = "Which distortion is the strongest in this video, and how strong is it?"
NOTHING = "no distortion"
RUNS = ("mixed", "scores", "supervised")
AGAIN = ("--max_steps", "100", "--learning_rate", "1e-3", "--warmup_steps", "10")
LIMITS = ("--max-new-tokens", "48", "--batch-size", "50", "--answer-only")
SETS = ("test", "ood_content", "ood_distortion")


def main() -> None:
    """Run what is missing, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/multitask"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    out: Path = options.out
    world = out / "world"
    make_world(world, seed=WORLD_SEED)
    for name in SETS:
        write_samples(world / f"{name}.jsonl", named(world / f"{name}.csv"))
    scored, both = mixtures(world)
    start = make_start(out)
    with ThreadPoolExecutor(options.jobs) as pool:
        first = pool.submit(measure, start, world, out / "measured/start")
        jobs = {
            (name, seed): pool.submit(run, name, seed, start, world, {"scores": scored}.get(name, both), out)
            for seed in options.seeds
            for name in RUNS
        }
        found = {key: job.result() for key, job in jobs.items()}
    results = {"start": first.result()} | {
        name: [found[name, seed] for seed in options.seeds] for name in RUNS
    }
    report = environment(("torch", "transformers", "trl"))
    report |= {"seeds": options.seeds, "results": results, "changes": changes(results)}
    show(report)
    write("multitask", report)


def strongest(row: dict[str, str]) -> tuple[str, str]:
    """The degree and the name of a clip's strongest distortion; no degree where it has none."""
    strengths = {kind: float(row[kind]) for kind in KINDS}
    kind = max(KINDS, key=lambda name: strengths[name])
    return (DEGREES[degree(strengths[kind]) - 1], kind) if strengths[kind] else ("", NOTHING)


def named(labels: Path) -> list[Sample]:
    """A question about each clip of a set of the world."""
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    samples = []
    for row in rows:
        severity, kind = strongest(row)
        samples.append(
            Sample(
                id=f"{row['video']}#name",
                dataset="names",
                media=(Media(row["video"]),),
                task="recognition",
                question=QUESTION,
                answer=f"{severity} {kind}".strip(),
                columns={"distortion": kind},
            )
        )
    return samples


def mixtures(world: Path) -> tuple[Path, Path]:
    """The training clips as samples to be scored, and these with the questions about names."""
    with (world / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [
        Sample(
            row["video"], "demo", (Media(row["video"]),), target=float(row["mos"]), spread=float(row["std"])
        )
        for row in rows
    ]
    write_samples(world / "scores.jsonl", scores)
    write_samples(world / "both.jsonl", [*scores, *named(world / "train.csv")])
    return world / "scores.jsonl", world / "both.jsonl"


def make_start(out: Path) -> Path:
    """A model that scores as the base does, and answers the question about the strongest distortion."""
    folder = out / "start"
    if (folder / DONE).exists():
        return folder / "final"
    labels = make_base_set(out / "data", num_clips=NUM_TAUGHT)
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    samples = []
    for row in rows:
        media = (Media(row["video"]),)
        reasoning = row["reasoning"]
        score = float(row["mos"])
        # the list is sorted by degree: the strongest comes first, without its time
        first = reasoning.split(", ")[0].split(" at ")[0].split(" in ")[0]
        name = answers.render(reasoning, first)
        scored = answers.render(reasoning, score)
        samples.append(Sample(row["video"], "base", media, target=score, answer=scored))
        samples.append(Sample(f"{row['video']}#name", "base", media, "recognition", QUESTION, name))
    write_samples(out / "taught.jsonl", samples)
    settings = [RECIPES / "world/base.yaml"]
    train(
        "sft",
        settings,
        BASE,
        out / "taught.jsonl",
        labels.parent,
        folder,
        "--dataset_name",
        "",
        *AGAIN,
        seed=0,
    )
    return folder / "final"


def run(name: str, seed: int, start: Path, world: Path, samples: Path, out: Path) -> dict[str, Any]:
    """Train from the start in one of three ways, and measure."""
    folder = out / f"{name}{seed}"
    recipe = "sft" if name == "supervised" else "grpo"
    settings = [
        RECIPES / f"demo_{recipe}.yaml",
        *([RECIPES / "demo_multitask.yaml"] if recipe == "grpo" else []),
    ]
    options: list[object] = ["--dataset_name", "", "--eval_strategy", "no"]
    if recipe == "sft":
        samples = described(samples, start, world, out)
    elif name == "scores":
        options += ["--rewards", "format", "regression", "ranking"]
    train(recipe, settings, start, samples, world, folder, *options, seed=seed)
    if not (folder / "merged").exists():
        call("merge", folder / "final", folder / "merged", shown=False)
    return measure(folder / "merged", world, out / f"measured/{name}{seed}")


def described(samples: Path, start: Path, world: Path, out: Path) -> Path:
    """Samples with answers to learn: the start's own descriptions, observers' scores and right names."""
    path = out / "described.jsonl"
    if path.exists():
        return path
    add_reasoning(start, world / "train.csv", world, out / "described.csv")
    with (out / "described.csv").open(newline="") as file:
        reasoning = {row["video"]: row["reasoning"] for row in csv.DictReader(file)}
    told = []
    for sample in read_samples(samples):
        text = reasoning[sample.media[0].path]
        answer = str(sample.answer) if sample.target is None else sample.target
        told.append(replace(sample, answer=answers.render(text, answer)))
    write_samples(path, told)
    return path


def measure(checkpoint: Path, world: Path, out: Path) -> dict[str, Any]:
    """For each set the share of right kinds, of right kinds with their degree, and the SRCC of the scores."""
    scores = evaluate(checkpoint, world / SETS_FILE, out / "scores")
    found = {}
    for name in SETS:
        folder = out / name
        if not (folder / "summary.json").exists():
            words = ["ask-set", checkpoint, world / f"{name}.jsonl", "--videos", world, "--out", folder]
            call(*words, *LIMITS, shown=False)
        with (folder / "answers.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        whole = json.loads((folder / "summary.json").read_text())["parts"][0]
        kinds = Counter(kind_of(row["key"], DEGREES)[1] for row in rows)
        exact = [said(row["answer"]).casefold() == row["key"].casefold() for row in rows]
        found[name] = {
            "kind": round(whole["score"], 4),
            "kind and degree": round(sum(exact) / len(exact), 4),
            "always the same kind": round(max(kinds.values()) / len(rows), 4),
            "srcc": scores[name]["srcc"],
        }
    return found


def changes(results: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Each run's difference from the start, over the seeds: mean, 95 % t interval and the seeds' own."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name in RUNS:
        table[name] = {}
        for place in SETS:
            for figure in ("kind", "kind and degree", "srcc"):
                each = [run[place][figure] - results["start"][place][figure] for run in results[name]]
                found = estimate(np.array(each))
                table[name][f"{place}, {figure}"] = {
                    "mean": round(found.value, 4),
                    "low": round(found.low, 4),
                    "high": round(found.high, 4),
                    "seeds": [round(value, 4) for value in each],
                }
    return table


def show(report: dict[str, Any]) -> None:
    """Print a row for each figure."""
    table = Table("figure", "start", *RUNS)
    for figure in report["changes"]["mixed"]:
        place, _, name = figure.partition(", ")
        cells = []
        for run_name in RUNS:
            found = report["changes"][run_name][figure]
            cells.append(f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]")
        table.add_row(figure, f"{report['results']['start'][place][name]:.3f}", *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
