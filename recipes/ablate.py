"""Run the rows of an ablation table over several seeds; what has its result already stays.

    python recipes/ablate.py --table 4 --jobs 2
    vqathinker report --table 4 out/ablations/results

A row is a YAML in `ablations/` with its difference from the recipe alone, `ablations/tables.yaml` puts rows
together. `--scale laptop` runs them in the demo's world on a CPU core each. `--scale full` runs them on data,
weights and machines that a file names (`--setup`). The same line may run many times at once, as a job array
does: a row and seed that one is running is left to it.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml
from filelock import FileLock, Timeout
from world import SETS_FILE, make_world
from world.runs import ON_LAPTOP, READING, RECIPES, call, describe, measure
from world.starts import BASE, STARTS, folder_of, make_start

ABLATIONS = RECIPES / "ablations"
SEEDS = (10, 11, 12, 13, 14)  # on which no setting was chosen
WORLD_SEED = 1  # likewise


class Scale(StrEnum):
    """Of the data and the model."""

    LAPTOP = "laptop"
    FULL = "full"


@dataclass(frozen=True)
class Row:
    """A row of a table; the attributes are those of `tables.yaml`."""

    name: str
    recipe: str = "grpo"
    start: str = "base"
    labels: str = ""

    @property
    def settings(self) -> Path:
        """Its difference from the recipe."""
        return ABLATIONS / f"{self.name}.yaml"


@dataclass(frozen=True)
class Setup:
    """What all rows share.

    Attributes:
        starts: checkpoint of each start.
        sets: YAML file of the sets to evaluate on.
        settings: recipe to the YAML that a row's is laid over; those of LSVQ if omitted.
        options: of every training, such as its labels.
        labels: other training labels by name.
        launch: options of the launcher.
        reading: options of the evaluation.
    """

    starts: Mapping[str, str]
    sets: str
    settings: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    launch: Sequence[str] = ()
    reading: Sequence[str] = ("--answer-only",)

    def commands(self, row: Row, seed: int, folder: Path) -> list[list[str]]:
        """The training and the evaluation of a row.

        Raises:
            ValueError: if the row starts or learns from something that is not named.
        """
        for kind, name, known in (("starts", row.start, self.starts), ("labels", row.labels, self.labels)):
            if name and name not in known:
                raise ValueError(f"{row.name} needs {kind}: {name}; there are {', '.join(known) or 'none'}")
        base = self.settings.get(row.recipe, str(RECIPES / f"{row.recipe}_lsvq.yaml"))
        train = ["train", row.recipe, *self.launch, "--config", base, str(row.settings), *self.options]
        train += ["--train_labels", self.labels[row.labels]] if row.labels else []
        train += ["--model_name_or_path", self.starts[row.start], "--seed", str(seed)]
        train += ["--output_dir", str(folder / "train"), "--overwrite_output_dir", "true"]
        evaluate = ["evaluate", str(folder / "train/final"), "--sets", self.sets, *self.reading]
        return [train, [*evaluate, "--out", str(folder / "scores")]]


@dataclass(frozen=True)
class Job:
    """A row with a seed.

    Attributes:
        row: what is trained.
        seed: of the training.
        folder: of its training and its scores.
        result: where its figures go.
        commands: that train and evaluate.
    """

    row: Row
    seed: int
    folder: Path
    result: Path
    commands: list[list[str]]


def main(
    table: Annotated[str, typer.Option(help="a name of ablations/tables.yaml")],
    scale: Annotated[Scale, typer.Option(help="of the data and the model")] = Scale.LAPTOP,
    row: Annotated[list[str] | None, typer.Option(help="this row of the table alone; repeatable")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="repeatable; 10 to 14 if omitted")] = None,
    out: Annotated[Path, typer.Option(help="output folder")] = Path("out/ablations"),
    results: Annotated[Path | None, typer.Option(help="of the figures; OUT/results if omitted")] = None,
    setup: Annotated[Path | None, typer.Option(help="YAML: what the full scale needs")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="trainings at a time")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the commands alone")] = False,
) -> None:
    """Train and evaluate what has no result yet; a result file for each row and seed."""
    results = results or out / "results"
    try:
        rows = read_rows(table, row or [])
        shared = laptop(out) if scale is Scale.LAPTOP else read_setup(setup)
        planned = [
            Job(r, s, folder, results / f"{r.name}-{s}.json", shared.commands(r, s, folder))
            for s in seed or SEEDS
            for r in rows
            for folder in (out / r.name / f"seed{s}",)
        ]
    except (ValueError, OSError, yaml.YAMLError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    if dry_run:
        for job in planned:
            sys.stdout.writelines(f"vqathinker {shlex.join(words)}\n" for words in job.commands)
        return
    if scale is Scale.LAPTOP:
        prepare(out, rows)
    results.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run, job, scale, shown=jobs == 1) for job in planned]
    for one in running:
        one.result()  # an error is raised when all have ended


def read_rows(table: str, wanted: Sequence[str]) -> list[Row]:
    """The rows of a table, or some of them.

    Raises:
        ValueError: for an unknown table or row.
    """
    tables = yaml.safe_load((ABLATIONS / "tables.yaml").read_text(encoding="utf-8"))
    if table not in tables:
        raise ValueError(f"--table {table}: expected one of {', '.join(tables)}")
    known = {f.name for f in fields(Row)}
    rows = {
        name: Row(name, **{key: value for key, value in (entry or {}).items() if key in known})
        for name, entry in tables[table]["rows"].items()
    }
    for name in wanted:
        if name not in rows:
            raise ValueError(f"--row {name}: table {table} has {', '.join(rows)}")
    return [rows[name] for name in wanted or rows]


def laptop(out: Path) -> Setup:
    """The demo's settings in a world of its own."""
    world = out / "world"
    starts = out / "starts"
    options = ["--train_labels", world / "train.csv", "--train_videos", world]
    options += ["--eval_labels", world / "val.csv", "--eval_videos", world]
    return Setup(
        starts={name: str(folder_of(name, starts)) for name in STARTS},
        sets=str(world / SETS_FILE),
        settings={name: str(RECIPES / f"demo_{name}.yaml") for name in ("grpo", "sft")},
        options=[str(word) for word in options],
        labels={"described": str(out / "described.csv")},
        launch=ON_LAPTOP,
        reading=READING,
    )


def read_setup(file: Path | None) -> Setup:
    """The setup of the full scale.

    Raises:
        ValueError: if it is missing or says something that it cannot.
    """
    if file is None:
        raise ValueError("--scale full needs --setup FILE: checkpoints, labels, sets and launcher")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    known = [f.name for f in fields(Setup)]
    if not isinstance(content, dict) or not {"starts", "sets"} <= set(content) <= set(known):
        raise ValueError(f"--setup {file}: expected starts and sets, and may have {', '.join(known[2:])}")
    return Setup(**content)


def prepare(out: Path, rows: Sequence[Row]) -> None:
    """Make the clips and the checkpoints that the rows need; one of several processes does it."""
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / "prepare.lock"):
        make_world(out / "world", seed=WORLD_SEED)
        for name in dict.fromkeys(row.start for row in rows):
            make_start(name, out / "starts")
        if any(row.labels for row in rows):
            describe(BASE, out / "world/train.csv", out / "world", out / "described.csv")


def run(job: Job, scale: Scale, *, shown: bool) -> None:
    """Train, evaluate and keep the figures, unless they are there or another process is at it."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.folder / "running.lock", timeout=0):
            if not job.result.exists():
                keep(job, scale, shown=shown)
    except Timeout:
        sys.stderr.write(f"{job.row.name}, seed {job.seed}: is running already\n")


def keep(job: Job, scale: Scale, *, shown: bool) -> None:
    """Run the commands of a job and write its figures."""
    train, evaluate = job.commands
    start = time.perf_counter()
    if not (job.folder / "train/final").exists():
        call(*train, shown=shown)
    trained = time.perf_counter()
    call(*evaluate, shown=shown)
    figures = measure(job.folder / "scores")
    content = {
        "row": job.row.name,
        "seed": job.seed,
        "scale": scale.value,
        "settings": yaml.safe_load(job.row.settings.read_text(encoding="utf-8")),
        "results": figures,
        "seconds": {"train": round(trained - start), "evaluate": round(time.perf_counter() - trained)},
    }
    partial = job.result.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(job.result)
    shown_figures = ", ".join(f"{name} {found['srcc']:.3f}" for name, found in figures.items())
    sys.stderr.write(f"{job.row.name}, seed {job.seed}: SRCC {shown_figures}\n")


if __name__ == "__main__":
    typer.run(main)
