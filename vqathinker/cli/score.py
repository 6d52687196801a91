"""`vqathinker score`: numbers, descriptions and answers for video files."""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from vqathinker.cli.options import CheckpointName, EngineOptions, KeepOptions, ModeOptions, require_keeping
from vqathinker.cli.report import require_page
from vqathinker.cli.require import require_checkpoint, require_room
from vqathinker.cli.show import FAILED, errors_in_a_line, fail, leave, progress_bar, same_command, say_kept
from vqathinker.cli.usage import nearest_path, with_options
from vqathinker.prompts import DESCRIBE_QUESTION

if TYPE_CHECKING:
    from vqathinker.evaluation import Keeping
    from vqathinker.evaluation.files import OutputFiles, StoredResults
    from vqathinker.media.container import VideoError
    from vqathinker.scoring import Reply, Score
    from vqathinker.scoring.task import Task

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
Found = list["str | VideoError"]


@dataclass(frozen=True)
class PrintOptions:
    """What is printed of a result."""

    as_json: Annotated[bool, typer.Option("--json", help="JSON lines, with all that shaped a score.")] = False
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: the same but its settings.")] = False
    reasoning: Annotated[
        bool | None,
        typer.Option("--reasoning/--no-reasoning", help="The reasoning below each score; so on a terminal."),
    ] = None

    html: Annotated[
        Path | None, typer.Option(help="Also a page: sortable table, pictures, the worst and the best.")
    ] = None

    @property
    def form(self) -> str:
        """json, csv or table."""
        return "json" if self.as_json else "csv" if self.as_csv else "table"

    @property
    def shows_reasoning(self) -> bool:
        """Whether the table has the reasoning."""
        return sys.stdout.isatty() if self.reasoning is None else self.reasoning


@dataclass(frozen=True)
class TaskOptions:
    """What is asked of each video beside one score."""

    timeline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="A score for each window of this length.")
    ] = None
    stride: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="From window to window; their length if omitted.")
    ] = None
    describe: Annotated[bool, typer.Option("--describe", help="A description instead of a score.")] = False
    ask: Annotated[str | None, typer.Option(help="An answer to this question instead of a score.")] = None

    def to_task(self, mode: ModeOptions) -> Task:
        """Leave if the options contradict one another."""
        from vqathinker.scoring.task import Task

        is_answer = self.describe or self.ask is not None
        if self.describe and self.ask is not None:
            fail("choose one of --describe and --ask")
        if is_answer and (mode.samples > 1 or mode.expected or mode.levels or self.timeline is not None):
            fail("--describe and --ask give no score: leave out --samples, --expected, --levels, --timeline")
        if self.stride is not None and self.timeline is None:
            fail("--stride needs --timeline")
        if self.ask is not None and not self.ask.strip():
            fail("--ask needs a question")
        for name, value in (("--timeline", self.timeline), ("--stride", self.stride)):
            if value is not None and not value > 0:
                fail(f"{name} {value:g}: a number of seconds must be positive")
        question = DESCRIBE_QUESTION if self.describe else self.ask
        return Task(mode.to_mode(), question, self.timeline, self.stride)


@with_options
def score(
    checkpoint: CheckpointName,
    paths: Annotated[
        list[str], typer.Argument(help="Videos, folders, quoted patterns; - for a list on standard input.")
    ],
    print_options: PrintOptions,
    mode: ModeOptions,
    task_options: TaskOptions,
    keep: KeepOptions,
    engine: EngineOptions,
) -> None:
    """Print a score from 1 to 5 for each video, or keep them with --out FOLDER, FILE.csv or FILE.jsonl.

    With --out the same command again goes on where the last one stopped, and tries unreadable files again.

    Exit code 0: all scored. 1: unreadable files, answers without a score. 2: a wrong argument or checkpoint.
    130: interrupted.
    """
    if print_options.as_json and print_options.as_csv:
        fail("choose one of --json and --csv")
    if keep.out is not None and print_options.form != "table":
        fail("--out writes files: leave --json and --csv out")
    if print_options.html is not None:
        require_page(print_options.html, overwrite=keep.overwrite)
    engine.check(mode)
    task = task_options.to_task(mode)
    shard = keep.part(engine.engine)
    output = None if keep.out is None else _output(keep.out)
    keeping = None
    if output is not None:
        keeping = output.keeping(overwrite=keep.overwrite, shard=shard, origin={"checkpoint": checkpoint})
        require_keeping(keeping)
    # whatever can be wrong is told before a model is loaded
    folder = require_checkpoint(checkpoint)
    require_room(folder, engine.max_new_tokens)
    found = _find(paths)
    tally = Tally(print_options, task, is_kept=output is not None)
    scorer = engine.load(folder)
    with errors_in_a_line(partial(_kept_note, keeping)), scorer:
        if output is None or keeping is None:
            if print_options.as_json:
                from vqathinker.evaluation.files import task_settings

                tally.settings = {"checkpoint": checkpoint, **task_settings(scorer, task)}
            _print(task.run(scorer, found), len(found), tally)
            if print_options.html is not None:
                _write_page(tally.rows, print_options.html)
        else:
            from vqathinker.evaluation.files import ScoringFiles

            with ScoringFiles(scorer, found, task, output, keeping) as scoring:
                say_kept(len(scoring.kept), len(scoring.paths), len(scoring.left))
                _print(scoring, len(scoring.left), tally)
            done = scoring.result()
            if print_options.html is not None and not done.num_pending:
                _write_page(done.rows, print_options.html)
            _leave(done, output, shard, tally)
    tally.report()
    raise typer.Exit(FAILED if tally.num_failed else 0)


def _kept_note(keeping: Keeping | None) -> str:
    """What a run leaves that ends on its way, as the rest of a sentence."""
    if keeping is None:
        return "; every result so far is written"
    return f"; every result so far is kept, {same_command(keeping)} goes on"


def _print(answers: Iterable[Iterable[Score | Reply]], number: int, tally: Tally) -> None:
    """Hand the results of some videos to the tally as they come, under a progress bar."""
    with progress_bar() as progress:
        bar = progress.add_task("scoring", total=number)
        for results in answers:
            for result in results:
                tally.add(result)
            progress.advance(bar)


def _write_page(rows: list[dict[str, Any]], html: Path) -> None:
    """Write the page of some results."""
    from vqathinker.web.report import scores_page

    scores_page(rows, title=html.stem).write(html)
    typer.echo(f"wrote {html}", err=True)


def _leave(kept: StoredResults, output: OutputFiles, shard: tuple[int, int], tally: Tally) -> NoReturn:
    """Say what is kept and where, and leave with the code that the files deserve."""
    tally.report()
    if kept.num_pending:
        index, number = shard
        typer.echo(f"shard {index} of {number} is done, {kept.num_pending} videos are left to the others")
        raise typer.Exit(0)
    counts = kept.counts()
    names = ", ".join(map(str, output.files))
    typer.echo(
        f"{counts['videos']} videos, {counts['unreadable']} unreadable, "
        f"{counts['unparsed']} answers without a score; {names}"
    )
    leave(failed=counts["unreadable"] + counts["unparsed"] > 0)


class Tally:
    """Writes results to standard output as they come, and counts.

    Args:
        options: the form of what is written.
        task: what was asked.
        is_kept: whether results go to files instead.
    """

    def __init__(self, options: PrintOptions, task: Task, *, is_kept: bool) -> None:
        self.options = options
        self.is_kept = is_kept
        self.has_windows = task.window is not None
        self.settings: dict[str, Any] = {}  # beside each result as JSON
        self.last_unusable: str | None = None  # one line for all windows of a file
        self.rows: list[dict[str, Any]] = []  # for a page
        self.num_written = self.num_failed = self.num_clipped = self.num_lost = 0
        _take_any_name(sys.stdout, "backslashreplace")

    def add(self, result: Score | Reply) -> None:
        """Write one result; on standard error, why there is no score."""
        row = result.to_dict()
        is_answer = "question" in row
        failed = result.error is not None or (not is_answer and row["score"] is None)
        lost = 0 if is_answer else sum(value is None for value in row["samples"])
        if self.options.html is not None and not self.is_kept:
            self.rows.append(row)
        if not self.is_kept:
            try:
                self._write(row)
                sys.stdout.flush()
            except OSError as error:
                _leave_stdout(error, self.num_written)
        self.num_written += 1
        self.num_failed += failed
        self.num_clipped += row.get("clipped", False)
        self.num_lost += lost if not failed else 0
        if failed and not (result.error is not None and result.path == self.last_unusable):
            typer.echo(f"{result.path}: {result.error or 'the response holds no score'}", err=True)
            self.last_unusable = result.path if result.error is not None else None

    def report(self) -> None:
        """Say on standard error what the numbers do not show."""
        if self.num_clipped:
            typer.echo(f"{self.num_clipped} scores outside 1-5, set to its nearer end", err=True)
        if self.num_lost:
            typer.echo(f"{self.num_lost} samples hold no score and are left out", err=True)

    def _write(self, row: dict[str, Any]) -> None:
        from vqathinker.scoring.lines import flat_row, json_line, table_line

        is_first = not self.num_written
        if self.options.as_json:
            sys.stdout.write(json_line({**row, "settings": self.settings}))
        elif self.options.as_csv:
            # text in quotes: it may hold any end of a line
            writer = csv.DictWriter(sys.stdout, row, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            if is_first:
                writer.writeheader()
            writer.writerow(flat_row(row))
        else:
            shown = {"windows": self.has_windows, "reasoning": self.options.shows_reasoning}
            sys.stdout.write(table_line(row, with_header=is_first, **shown))


def _output(out: Path) -> OutputFiles:
    """What is written in the end, or leave if it cannot be."""
    from vqathinker.evaluation.files import OutputFiles

    try:
        return OutputFiles.of(out)
    except ValueError as error:
        fail(error)


def _find(paths: list[str]) -> Found:
    """The videos, or leave if none of those named is there."""
    from vqathinker.media.search import find_videos

    _take_any_name(sys.stdin, "surrogateescape")
    listed: list[str] = []
    for path in paths:
        listed += [line.rstrip("\n") for line in sys.stdin if line.strip()] if path == "-" else [path]
    if not listed:
        fail("standard input names no video")
    for path in listed:
        if ADDRESS.match(path) and not os.path.exists(path):
            fail(f"{path} is an address, score reads files: download it first (curl -LO {path})")
    found = find_videos(listed)
    lost = [path for path in found if not isinstance(path, str) or not os.path.lexists(path)]
    if len(lost) == len(found):
        first = lost[0]
        reason = f"{first}: no such file{nearest_path(first)}" if isinstance(first, str) else str(first)
        fail(reason if len(found) == 1 else f"none of {len(found)} videos is there; {reason}")
    return found


def _take_any_name(stream: TextIO, errors: str) -> None:
    """Let file names pass that are no text in the stream's encoding."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors=errors)


def _leave_stdout(error: OSError, num_written: int) -> NoReturn:
    """Give up on standard output: nobody reads it any more, or the disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail again
    if not isinstance(error, BrokenPipeError):
        typer.echo(f"Error: cannot write after {num_written} results: {error.strerror}", err=True)
    raise typer.Exit(FAILED)
