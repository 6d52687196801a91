"""`vqathinker score`: numbers, descriptions and answers for video files."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from vqathinker.cli.options import (
    AnswerOnly,
    BatchSize,
    Checkpoint,
    Combine,
    Device,
    Engine,
    Expected,
    Levels,
    MaxNewTokens,
    Precision,
    Samples,
    TimeLimit,
    Workers,
)
from vqathinker.cli.show import OUT_OF_MEMORY, fail, progress_bar
from vqathinker.prompts import DESCRIBE_QUESTION

if TYPE_CHECKING:
    from vqathinker.media.container import VideoError
    from vqathinker.scoring import Reply, Score, Scorer

FAILED, INTERRUPTED = 1, 130


def score(
    checkpoint: Checkpoint,
    paths: Annotated[
        list[str], typer.Argument(help="Videos, folders, quoted patterns; - for a list on standard input.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines with all that shaped a score.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with the same columns.")] = False,
    samples: Samples = 1,
    combine: Combine = "mean",
    expected: Expected = False,
    levels: Levels = False,
    timeline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="A score for each window of this length.")
    ] = None,
    stride: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="From window to window; their length if omitted.")
    ] = None,
    describe: Annotated[bool, typer.Option("--describe", help="A description instead of a score.")] = False,
    ask: Annotated[str | None, typer.Option(help="An answer to this question instead of a score.")] = None,
    engine: Engine = "hf",
    device: Device = None,
    dtype: Precision = "float32",
    time_limit: TimeLimit = 60,
    batch_size: BatchSize = 16,
    workers: Workers = 4,
    max_new_tokens: MaxNewTokens = 2048,
    answer_only: AnswerOnly = False,
) -> None:
    """Print a score from 1 to 5 for each video.

    Exit code 0: all scored. 1: unreadable files, answers without a score. 2: a wrong argument or checkpoint.
    """
    mode = {"samples": samples, "combine": combine, "expected": expected, "levels": levels}
    question = DESCRIBE_QUESTION if describe else ask
    if (as_json and as_csv) or (describe and ask is not None):
        fail("choose one of --json and --csv, and one of --describe and --ask")
    if question is not None and (samples > 1 or expected or levels or timeline is not None):
        fail("--describe and --ask give no score: leave out --samples, --expected, --levels, --timeline")
    if stride is not None and timeline is None:
        fail("--stride needs --timeline")
    if ask is not None and not ask.strip():
        fail("--ask needs a question")
    options = {"engine": engine, "device": device, "dtype": dtype, "time_limit": time_limit}
    options |= {"batch_size": batch_size, "num_workers": workers, "max_new_tokens": max_new_tokens}
    windows = None if timeline is None else (timeline, stride)
    scorer, found = _prepare(checkpoint, paths, windows, mode, options | {"think": not answer_only})
    tally = Tally("json" if as_json else "csv" if as_csv else "table", len(found))

    _run(scorer, partial(_results, scorer, found, question, windows, mode), tally)
    tally.report()
    raise typer.Exit(FAILED if tally.num_failed else 0)


def _results(
    scorer: Scorer,
    found: list[str | VideoError],
    question: str | None,
    windows: tuple[float, float | None] | None,
    mode: dict[str, Any],
    on_video: Callable[[], None],
) -> Iterator[Score | Reply]:
    """Answers to a question, scores of windows, or scores."""
    if question is not None:
        yield from _counted(scorer.ask(found, question), on_video)
    elif windows is None:
        yield from _counted(scorer.stream(found, **mode), on_video)
    else:
        for item in found:
            one = item if isinstance(item, str) else None
            yield from scorer.timeline(one, *windows, **mode) if one else scorer.stream([item], **mode)
            on_video()


class Tally:
    """Writes results to standard output as they come, and counts.

    Args:
        form: table, json or csv.
        num_videos: how many are to come.
    """

    def __init__(self, form: str, num_videos: int) -> None:
        self.form, self.num_videos = form, num_videos
        self.last_unusable: str | None = None  # one line for all windows of a file
        self.num_written = self.num_failed = self.num_clipped = self.num_lost = 0
        _take_any_name(sys.stdout, "backslashreplace")

    def add(self, result: Score | Reply) -> None:
        """Write one result; on standard error, why there is no score."""
        row = result.to_dict()
        is_answer = "question" in row
        failed = result.error is not None or (not is_answer and row["score"] is None)
        lost = 0 if is_answer else sum(value is None for value in row["samples"])
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
        if self.form == "json":
            sys.stdout.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        elif self.form == "csv":
            writer = csv.DictWriter(sys.stdout, row, lineterminator="\n")
            if not self.num_written:
                writer.writeheader()
            flat = {
                k: json.dumps(v, ensure_ascii=False) for k, v in row.items() if isinstance(v, list | dict)
            }
            writer.writerow(row | flat)
        else:
            sys.stdout.write(_table_line(row, with_header=not self.num_written))


def _table_line(row: dict[str, Any], *, with_header: bool) -> str:
    """A row for people: numbers in columns, the path last."""
    if "question" in row:
        return f"{row['path']}\n  {row['text']}\n" if row["error"] is None else ""
    shown = {"score": 2} | ({"spread": 2} if row["mode"] == "samples" else {})
    shown |= {"start": 2, "end": 2, "seconds": 2}
    header = "".join(f"{name:>8}" for name in shown) + "  video\n"
    cells = (f"{math.nan if row[name] is None else row[name]:8.{digits}f}" for name, digits in shown.items())
    return (header if with_header else "") + "".join(cells).replace("nan", "  -") + f"  {row['path']}\n"


def _prepare(
    checkpoint: Path,
    paths: list[str],
    windows: tuple[float, float | None] | None,
    mode: dict[str, Any],
    options: dict[str, Any],
) -> tuple[Scorer, list[str | VideoError]]:
    """Load the checkpoint and find the videos, or leave with what the user can correct."""
    from vqathinker.media.windows import check_windows
    from vqathinker.scoring import Mode, Scorer
    from vqathinker.scoring.search import find_videos

    _take_any_name(sys.stdin, "surrogateescape")
    listed: list[str] = []
    for path in paths:
        listed += [line.rstrip("\n") for line in sys.stdin if line.strip()] if path == "-" else [path]
    if not listed:
        fail("standard input names no video")
    try:
        Mode(**mode)
        if windows is not None:
            check_windows(*windows)
        return Scorer.from_pretrained(checkpoint, **options), find_videos(listed)
    except (ValueError, OSError, ImportError) as error:
        fail(error)


def _counted(results: Iterator[Any], on_result: Callable[[], None]) -> Iterator[Any]:
    for result in results:
        yield result
        on_result()


def _run(
    scorer: Scorer, results: Callable[[Callable[[], None]], Iterator[Score | Reply]], tally: Tally
) -> None:
    """Write all results under a progress bar; leave with one line where a person can do something."""
    import torch

    try:
        with scorer, progress_bar() as progress:
            task = progress.add_task("scoring videos", total=tally.num_videos)
            for result in results(lambda: progress.advance(task)):
                tally.add(result)
    except KeyboardInterrupt:
        typer.echo("interrupted; every result so far is written", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except torch.OutOfMemoryError:
        fail(OUT_OF_MEMORY)
    except ValueError as error:
        fail(error)


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
