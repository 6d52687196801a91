"""`vqathinker ask-set`: a checkpoint's answers to the questions of a file, judged and counted."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from filelock import FileLock, Timeout

from vqathinker.cli.evaluate import kept_note
from vqathinker.cli.label_options import require_folder
from vqathinker.cli.options import CheckpointName, EngineOptions, KeepOptions, ModeOptions, require_keeping
from vqathinker.cli.require import require_checkpoint, require_label_file, require_room
from vqathinker.cli.show import errors_in_a_line, fail, leave, print_table, progress_bar
from vqathinker.cli.usage import with_options

if TYPE_CHECKING:
    from vqathinker.chat import ChatClient
    from vqathinker.evaluation import Keeping
    from vqathinker.evaluation.question_report import QuestionReport
    from vqathinker.evaluation.question_run import QuestionRun
    from vqathinker.grading import Grader
    from vqathinker.samples import Sample
    from vqathinker.scoring import Scorer

LETTERS_PER_TOKEN = 4  # of English, about
MILLION = 1_000_000
NUM_FAULTS = 10  # that are printed
LOCK_FILE = ".judging.lock"
ADDRESS = re.compile(r"https?://.")
GRADES = {"0": 0, "1": 1, "2": 2}
AT_ONCE = 8  # answers between two steps of the progress bar, times questions at a time


@dataclass(frozen=True)
class JudgeOptions:
    """Who grades open answers."""

    judge: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL[@URL]", help="Judge of open answers, of a server up to /v1; repeatable."),
    ] = None
    judge_key: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable with the servers' key.")
    ] = "OPENAI_API_KEY"
    rounds: Annotated[int, typer.Option(min=1, help="How often a judge is asked about an answer.")] = 5
    temperature: Annotated[
        float, typer.Option(min=0, help="Of the judges; at 0 all rounds say the same.")
    ] = 1.0
    concurrency: Annotated[int, typer.Option(min=1, help="Questions to a judge at a time.")] = 8
    judge_time: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for each of six tries.")] = 60
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="IN OUT", help="Of a million tokens in and out; what judging costs is said then."
        ),
    ] = None
    human: Annotated[
        Path | None, typer.Option(help="CSV with the columns id and grade (0 to 2), to compare judges with.")
    ] = None

    def graders(self, out: Path | None) -> dict[str, Grader]:
        """The judges by name, each with a journal if results are kept; leave if one cannot be asked."""
        from vqathinker.chat import ChatClient
        from vqathinker.evaluation.question_run import judge_folder
        from vqathinker.grading import Grader

        found = {}
        for name in self.judge or []:
            model, _, url = name.partition("@")
            if not model or (url and not ADDRESS.match(url)):
                fail(f"--judge {name}: expected MODEL or MODEL@URL, such as judge@http://127.0.0.1:8000/v1")
            journal = None if out is None else judge_folder(out, name)
            try:
                client = ChatClient(
                    model,
                    url=url or None,
                    key_variable=self.judge_key,
                    concurrency=self.concurrency,
                    time_limit=self.judge_time,
                    temperature=self.temperature,
                    journal=journal,
                )
            except (ImportError, ValueError, OSError) as error:
                fail(error)
            _require_same_model(name, client)
            found[name] = Grader(client, self.rounds)
        return found

    def check(self) -> None:
        """Leave if there is nothing that people's grades can be compared with."""
        if self.human is not None and not self.judge:
            fail("--human compares people with judges: give --judge MODEL@URL")

    def grades(self, samples: Sequence[Sample]) -> dict[tuple[str, str], int]:
        """The grades of people by the samples' keys, or leave if the file does not fit."""
        if self.human is None:
            return {}
        require_label_file(self.human)
        found: dict[tuple[str, str], int] = {}
        try:
            with self.human.open(newline="", encoding="utf-8-sig") as file:
                for row in csv.DictReader(file):
                    keys = [one.key for one in samples if one.id == row["id"]]
                    (key,) = [key for key in keys if row.get("dataset") in (None, "", key[0])]
                    found[key] = GRADES[row["grade"].strip()]
        except (KeyError, AttributeError, ValueError) as error:
            fail(
                f"--human {self.human}: expected the columns id and grade (0, 1 or 2), and dataset where an "
                f"id is in several ({error!r})"
            )
        return found


def _require_same_model(name: str, client: ChatClient) -> None:
    """Leave if another model than before is served by a judge's name; say if the server does not answer."""
    from vqathinker.chat import ChatError
    from vqathinker.types import RunStopped

    try:
        client.require_same_model()
    except ChatError as error:
        typer.echo(f"--judge {name} does not answer now: {error}", err=True)
    except RunStopped as error:
        fail(f"--judge {error}")


@with_options
def ask_set(
    checkpoint: CheckpointName,
    questions: Annotated[
        Path, typer.Argument(help="Sample file, or one of Q-Bench-Video, FineVD or LLaVA conversations.")
    ],
    videos: Annotated[Path, typer.Option(help="Folder that the paths in the file start from.")],
    *,
    judging: JudgeOptions,
    keep: KeepOptions,
    engine: EngineOptions,
) -> None:
    """Ask the questions of a file and count the right answers, by type and concern.

    Closed questions are right or wrong by the option that is chosen; open ones are graded by judges. With
    --out FOLDER the same command again goes on where the last one stopped; neither the checkpoint nor a
    judge is asked twice.

    Exit code 0: all answered, and graded if there is a judge. 1: unreadable media, answers that a judge has
    not graded. 2: a wrong argument, file or checkpoint. 130: interrupted.
    """
    from vqathinker.evaluation import Keeping

    engine.check(ModeOptions())
    shard = keep.part(engine.engine)
    require_label_file(questions)
    require_folder(videos)
    judging.check()
    samples = _read(questions)
    human = judging.grades(samples)
    folder = require_checkpoint(checkpoint)
    require_room(folder, engine.max_new_tokens)
    from vqathinker.evaluation.question_run import JUDGES_FOLDER, QUESTION_FILES

    origin = {"checkpoint": checkpoint, "labels": questions.name}
    keeping = Keeping(
        keep.out,
        QUESTION_FILES,
        folders=[JUDGES_FOLDER],
        overwrite=keep.overwrite,
        shard=shard,
        origin=origin,
    )
    require_keeping(keeping)
    # what is wrong with a judge is told before a model is loaded; what is kept of it may be replaced
    judging.graders(None if keep.overwrite else keep.out)
    with errors_in_a_line(partial(kept_note, [keeping])):
        with engine.load(folder) as scorer:
            run = _begin(scorer, samples, videos, keeping)
            _ask(run)
        num_pending = run.report().num_pending
        if num_pending:
            left = f"{num_pending} questions are left to the others"
            typer.echo(f"shard {shard[0]} of {shard[1]} is done, {left}")
            raise typer.Exit(0)
        with _alone(keep.out):
            report = run.report()  # nobody has replaced the answers meanwhile, or it says so
            report.human = human
            graders = judging.graders(keep.out)
            for name, grader in graders.items():
                _judge(report, name, grader, judging.price)
            if keep.out is not None:
                report.write(keep.out)
    leave(failed=_show(report, has_judge=bool(graders)))


def _begin(scorer: Scorer, samples: Sequence[Sample], videos: Path, keeping: Keeping) -> QuestionRun:
    """Take the folder over, unless its answers would be replaced while somebody judges them."""
    from vqathinker.evaluation.question_run import QuestionRun

    if keeping.folder is None or not keeping.overwrite:
        return QuestionRun(scorer, samples, videos, keeping)
    keeping.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(keeping.folder / LOCK_FILE, timeout=0):
            return QuestionRun(scorer, samples, videos, keeping)
    except Timeout:
        raise ValueError(
            f"another process judges the answers in {keeping.folder}; wait for it, or stop it"
        ) from None


@contextmanager
def _alone(out: Path | None) -> Iterator[None]:
    """Let one of several processes judge at a time; who comes later finds the grades, which cost nothing."""
    if out is None:
        yield
        return
    lock = FileLock(out / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        typer.echo(f"waiting for another process, which judges the answers in {out}", err=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _read(file: Path) -> list[Sample]:
    """The samples of a file, or leave."""
    from vqathinker.samples import read_samples

    try:
        return read_samples(file)
    except (ValueError, OSError) as error:
        fail(error)


def _ask(run: QuestionRun) -> None:
    """Ask what is left under a progress bar."""
    with run as answers, progress_bar("media") as progress:
        if answers.num_left_out:
            typer.echo(
                f"{answers.num_left_out} samples are no questions with a known answer: left out", err=True
            )
        if answers.kept:
            typer.echo(
                f"{len(answers.kept)} of {len(answers.samples)} questions are answered already", err=True
            )
        bar = progress.add_task("asking", total=len(answers.left))
        for _ in answers:
            progress.advance(bar)


def _judge(report: QuestionReport, name: str, grader: Grader, price: tuple[float, float] | None) -> None:
    """Have a judge grade all open answers, its effort said before; what is kept costs nothing again."""
    rows = report.open_rows
    if not rows:
        typer.echo(f"{name}: no answer is open, there is nothing to judge", err=True)
        return
    prompts = [question.text for asked in report.to_judge(rows) for question in grader.questions(*asked)]
    tokens = sum(map(len, prompts)) // LETTERS_PER_TOKEN
    most = len(prompts) * grader.client.max_tokens
    cost = "" if price is None else f": at most about {(tokens * price[0] + most * price[1]) / MILLION:,.2f}"
    typer.echo(
        f"{name}: {len(prompts):,} questions about {len(rows):,} answers, about {tokens:,} tokens in and at "
        f"most {most:,} out{cost}",
        err=True,
    )
    step = AT_ONCE * grader.client.concurrency
    with progress_bar("answers") as progress:
        bar = progress.add_task(f"judging by {name}", total=len(rows))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            report.judge(name, grader, part)
            progress.advance(bar, len(part))
    counts = grader.client.counts
    told = report.judging(name)
    agreed = f"all rounds agree on {told['unanimous']} of {told['of several rounds']} answers"
    asked = f"{counts['asked']} asked, {counts['kept']} kept, {counts['failed']} failed"
    typer.echo(f"{name}: {asked}; {agreed}", err=True)
    if told["ungraded"] or told["partly graded"]:
        typer.echo(
            f"{name}: {told['ungraded']} answers not graded, {told['partly graded']} in part", err=True
        )
        for fault in report.faults(name)[:NUM_FAULTS]:
            typer.echo(f"{name}: {fault}", err=True)
    grader.client.close()


def _show(report: QuestionReport, *, has_judge: bool) -> bool:
    """Print the table and what it leaves out; return whether something is missing."""
    from rich.table import Table

    header, rows = report.table()
    table = Table(*header, box=None)
    for row in rows:
        table.add_row(*row)
    print_table(table)
    for one, other, number, found in report.agreement():
        between = f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
        typer.echo(f"κ of {one} and {other} over {number} answers: {between}")
    for place, error in list(report.errors.items())[:NUM_FAULTS]:
        typer.echo(f"{report.samples[place].media[0].path}: {error}", err=True)
    if report.errors:
        asked = len(report.samples)
        typer.echo(
            f"{len(report.errors)} of {asked} questions are about unreadable media: not counted", err=True
        )
    if report.num_ungraded and not has_judge:
        typer.echo(f"{report.num_ungraded} open answers are not graded: --judge MODEL@URL", err=True)
    return bool(report.errors) or (has_judge and report.num_ungraded > 0)
