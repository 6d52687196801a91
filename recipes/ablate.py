"""Run the rows of an ablation table over several seeds; what has its result already stays.

    python recipes/ablate.py --table 4 --jobs 2
    vqathinker report --table 4 out/ablations/laptop/results

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
from importlib.metadata import version
from pathlib import Path
from subprocess import CalledProcessError
from typing import Annotated, Any

import typer
import yaml
from filelock import FileLock, Timeout
from world import SETS_FILE, make_world
from world.build import write_text
from world.runs import (
    DONE,
    ON_LAPTOP,
    ONE_THREAD,
    READING,
    RECIPES,
    UNREADABLE,
    add_reasoning,
    call,
    course,
    measure,
)
from world.starts import BASE, STARTS, folder_of, make_start

from vqathinker.checkpoints.folders import checkpoints_in
from vqathinker.evaluation.ablations import UNTRAINED, AblationRow, read_table
from vqathinker.launch.resume import PACKAGES

SEEDS = (10, 11, 12, 13, 14)  # on which no setting was chosen
WORLD_SEED = 2  # likewise


class Scale(StrEnum):
    """Of the data and the model."""

    LAPTOP = "laptop"
    FULL = "full"


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
        environment: variables of both commands.
    """

    starts: Mapping[str, str]
    sets: str
    settings: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    launch: Sequence[str] = ()
    reading: Sequence[str] = ("--answer-only",)
    environment: Mapping[str, str] = field(default_factory=dict)

    def shaping(self) -> dict[str, Any]:
        """What shapes figures, as JSON has it; not how and where trainings are launched."""
        names = ("starts", "sets", "settings", "options", "labels", "reading")
        found: dict[str, Any] = json.loads(json.dumps({name: getattr(self, name) for name in names}))
        return found

    def configs(self, row: AblationRow) -> tuple[str, ...]:
        """The recipe's YAML and the row's, which is laid over it; none for a row that is its start."""
        if row.recipe == UNTRAINED:
            return ()
        return self.settings.get(row.recipe, str(RECIPES / f"{row.recipe}_lsvq.yaml")), str(row.settings)

    def train(self, row: AblationRow, seed: int, out: Path) -> list[str]:
        """The training of a row, which goes on from its last checkpoint if there is one; empty for a start.

        Raises:
            ValueError: if the row starts or learns from something that is not named.
        """
        for kind, name, known in (("starts", row.start, self.starts), ("labels", row.labels, self.labels)):
            if name and name not in known:
                raise ValueError(f"{row.name} needs {kind}: {name}; there are {', '.join(known) or 'none'}")
        if row.recipe == UNTRAINED:
            return []
        words = ["train", row.recipe, *self.launch, "--config", *self.configs(row), *self.options]
        if row.labels:
            words += ["--train_labels", self.labels[row.labels]]
        words += ["--model_name_or_path", self.starts[row.start], "--seed", str(seed)]
        goes_on = bool(checkpoints_in(out))
        words += ["--resume_from_checkpoint" if goes_on else "--overwrite_output_dir", "true"]
        return [*words, "--output_dir", str(out)]

    def evaluate(self, checkpoint: Path, out: Path) -> list[str]:
        """The evaluation of a checkpoint."""
        return ["evaluate", str(checkpoint), "--sets", self.sets, *self.reading, "--out", str(out)]


@dataclass(frozen=True)
class Job:
    """A row with a seed.

    Attributes:
        row: what is trained.
        seed: of the training.
        scale: of data and model.
        settings: of the recipe with the row's over them.
        setup: what its rows share, where that is not the laptop's.
        folder: of its training and its scores.
        result: where its figures go.
    """

    row: AblationRow
    seed: int
    scale: Scale
    settings: Mapping[str, Any]
    setup: Mapping[str, Any] | None
    folder: Path
    result: Path

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.row.name}, seed {self.seed}"

    @property
    def origin(self) -> dict[str, Any]:
        """What its figures are of."""
        return {
            "row": self.row.name,
            "seed": self.seed,
            "scale": self.scale.value,
            "settings": self.settings,
            "setup": self.setup,
        }

    def is_done(self) -> bool:
        """Whether its figures are there.

        Raises:
            ValueError: if those that are there are of other settings.
        """
        if not self.result.exists():
            return False
        found = json.loads(self.result.read_text(encoding="utf-8"))
        origin = self.origin
        if {key: found.get(key) for key in origin} != origin:
            raise ValueError(f"{self.result} is of other settings; move it away, and {self.folder} too")
        return True


def main(
    table: Annotated[str, typer.Option(help="a name of ablations/tables.yaml")],
    scale: Annotated[Scale, typer.Option(help="of the data and the model")] = Scale.LAPTOP,
    row: Annotated[list[str] | None, typer.Option(help="this row of the table alone; repeatable")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="repeatable; 10 to 14 if omitted")] = None,
    out: Annotated[Path, typer.Option(help="output folder, a folder in it for each scale")] = Path(
        "out/ablations"
    ),
    results: Annotated[Path | None, typer.Option(help="of the figures; OUT/SCALE/results if omitted")] = None,
    setup: Annotated[Path | None, typer.Option(help="YAML: what the full scale needs")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="trainings at a time, on a laptop")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the commands alone")] = False,
) -> None:
    """Train and evaluate what has no result yet; a result file for each row and seed."""
    folder = out / scale.value
    results = results or folder / "results"
    try:
        rows = read_rows(table, scale, row or [])
        shared = laptop(folder) if scale is Scale.LAPTOP else read_setup(setup, jobs)
        planned = [
            Job(
                row=one,
                seed=number,
                scale=scale,
                settings=read_layers(shared.configs(one)),
                setup=None if scale is Scale.LAPTOP else shared.shaping(),
                folder=folder / one.name / f"seed{number}",
                result=results / f"{one.name}-{number}.json",
            )
            for place, number in enumerate(seed or SEEDS)
            for one in rows
            if place == 0 or one.recipe != UNTRAINED  # which no seed changes
        ]
        commands = [commands_of(job, shared) for job in planned]
        left = [job for job in planned if not job.is_done()]
    except (ValueError, OSError, yaml.YAMLError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    if dry_run:
        for words in commands:
            sys.stdout.writelines(f"vqathinker {shlex.join(part)}\n" for part in words if part)
        return
    results.mkdir(parents=True, exist_ok=True)
    if scale is Scale.LAPTOP and left:
        prepare(folder, [job.row for job in left])
    raise SystemExit(1 if run_all(left, shared, jobs) else 0)


def read_layers(files: Sequence[str]) -> dict[str, Any]:
    """Settings of YAMLs, of which the later win."""
    layers: dict[str, Any] = {}
    for file in files:
        layers |= yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    return layers


def read_rows(table: str, scale: Scale, wanted: Sequence[str]) -> list[AblationRow]:
    """The rows that a table has at a scale, or some of them.

    Raises:
        ValueError: for an unknown table or row.
    """
    rows = {name: row for name, row in read_table(table).rows.items() if row.scale in ("", scale.value)}
    for name in wanted:
        if name not in rows:
            raise ValueError(f"--row {name}: table {table} has {', '.join(rows)}")
    return [rows[name] for name in wanted or rows]


def laptop(out: Path) -> Setup:
    """The demo's settings in a world of its own."""
    world = out / "world"
    options = ["--train_labels", world / "train.csv", "--train_videos", world]
    options += ["--eval_labels", world / "val.csv", "--eval_videos", world]
    return Setup(
        starts={name: str(folder_of(name, out / "starts")) for name in STARTS},
        sets=str(world / SETS_FILE),
        settings={name: str(RECIPES / f"demo_{name}.yaml") for name in ("grpo", "sft")},
        options=[str(word) for word in options],
        labels={"described": str(out / "described.csv")},
        launch=ON_LAPTOP,
        reading=READING,
        environment=ONE_THREAD,
    )


def read_setup(file: Path | None, jobs: int = 1) -> Setup:
    """The setup of the full scale.

    Raises:
        ValueError: if it is missing or says something that it cannot, or trainings would share the GPUs.
    """
    if file is None:
        raise ValueError("--scale full needs --setup FILE: checkpoints, labels, sets and launcher")
    if jobs > 1:
        raise ValueError("--jobs: two trainings would share the GPUs; start the same line on each machine")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    known = {f.name: f.default_factory is dict or f.name == "starts" for f in fields(Setup)}
    if not isinstance(content, dict) or not {"starts", "sets"} <= set(content) <= set(known):
        raise ValueError(f"--setup {file}: expected starts and sets, and maybe others of {', '.join(known)}")
    for name, value in content.items():
        wanted = dict if known[name] else str if name == "sets" else list
        if not isinstance(value, wanted):
            raise ValueError(f"--setup {file}: {name} is {value!r}, expected a {wanted.__name__}")
    return Setup(**content)


def prepare(out: Path, rows: Sequence[AblationRow]) -> None:
    """Make the clips and the checkpoints that the rows need; one of several processes does it."""
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / "prepare.lock"):
        world = out / "world"
        described = out / "described.csv"
        make_world(world, seed=WORLD_SEED)
        if any(row.labels or row.start == "sft" for row in rows):
            add_reasoning(BASE, world / "train.csv", world, described)
        for name in dict.fromkeys(row.start for row in rows):
            make_start(name, out / "starts", world=world, described=described)


def commands_of(job: Job, setup: Setup) -> tuple[list[str], list[str]]:
    """The training and the evaluation of a job."""
    out = job.folder / "train"
    train = setup.train(job.row, job.seed, out)
    checkpoint = out / "final" if train else Path(setup.starts[job.row.start])
    return train, setup.evaluate(checkpoint, job.folder / "scores")


def run_all(jobs: Sequence[Job], setup: Setup, number: int) -> int:
    """Run jobs, some at a time; how many failed, each of which is said."""
    num_failed = 0
    pool = ThreadPoolExecutor(number)
    try:
        running = [pool.submit(run, job, setup, shown=number == 1) for job in jobs]
        for job, one in zip(jobs, running, strict=True):
            try:
                one.result()
            except (CalledProcessError, OSError, ValueError) as error:
                num_failed += 1
                sys.stderr.write(f"{job.label}: {error}\n")
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt ends the table, not the running jobs alone
    return num_failed


def run(job: Job, setup: Setup, *, shown: bool) -> None:
    """Train, evaluate and keep the figures, unless another process is at it or has been."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.folder / "running.lock", timeout=0):
            if not job.is_done():
                keep(job, setup, shown=shown)
    except Timeout:
        sys.stderr.write(f"{job.label}: is running already\n")


def keep(job: Job, setup: Setup, *, shown: bool) -> None:
    """Run the commands of a job and write its figures."""
    train, evaluate = commands_of(job, setup)
    start = time.perf_counter()
    done = job.folder / DONE
    if train and not done.exists():
        call(*train, shown=shown, environment=setup.environment)
        done.touch()
    trained = time.perf_counter()
    call(*evaluate, shown=shown, environment=setup.environment, accepted=(0, UNREADABLE))
    figures = measure(job.folder / "scores")
    seconds = {"train": round(trained - start), "evaluate": round(time.perf_counter() - trained)}
    versions = {name: version(name) for name in PACKAGES}
    content = job.origin | {"results": figures, "seconds": seconds, "versions": versions}
    if train:
        content["course"] = course(job.folder / "train")
    write_text(job.result, json.dumps(content, indent=2) + "\n")
    correlations = ", ".join(f"{name} {found['srcc']:.3f}" for name, found in figures.items())
    sys.stderr.write(f"{job.label}: SRCC {correlations}\n")


if __name__ == "__main__":
    typer.run(main)
