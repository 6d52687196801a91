"""What the commands show: a progress bar on stderr, tables on stdout. Loads rich when it is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress
    from rich.table import Table

    from vqathinker.data.inspection import Report
    from vqathinker.evaluation import Evaluation, Keeping

NUM_SHOWN = 10
FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130
RANGE_DOUBTFUL = "more than half of the targets lie outside 1-5: give the native range as --range LOW HIGH"
OUT_OF_MEMORY = "out of memory; give a smaller --batch-size, or --dtype auto"


def fail(message: object) -> NoReturn:
    """Say what the user can correct in one line and leave with code 2."""
    typer.echo(f"Error: {' '.join(str(message).split())}", err=True)
    raise typer.Exit(USER_ERROR)


def leave(*, failed: bool) -> NoReturn:
    """Leave with code 1 if something is missing from the results.

    A launcher stops the other processes of one that fails; its processes tell by what they print.
    """
    raise typer.Exit(FAILED if failed and "WORLD_SIZE" not in os.environ else 0)


def same_command(keeping: Keeping) -> str:
    """What goes on after a run that ended on its way; with --overwrite it would start anew."""
    return "the same command without --overwrite" if keeping.overwrite else "the same command"


@contextmanager
def errors_in_a_line(kept: Callable[[], str] | None = None) -> Iterator[None]:
    """Leave with one line for what the user can correct.

    Args:
        kept: says what a run leaves that ends on its way, as the rest of a sentence.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        fail(f"{OUT_OF_MEMORY}{kept() if kept else ''}")
    except OSError as error:
        fail(f"{error}{kept() if kept else ''}")
    except (ValueError, ImportError) as error:  # what was asked for, told before or instead of a run
        fail(error)
    except KeyboardInterrupt:
        typer.echo(f"interrupted{kept() if kept else ''}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def require_free(report: Path | None, *, overwrite: bool, option: str = "--report") -> None:
    """Leave if a report cannot be written, before the work that it reports."""
    if report is None:
        return
    if report.is_dir():
        fail(f"{option} {report} is a folder: give a file")
    if report.exists() and not overwrite:
        fail(f"{report} exists; give --overwrite to replace it")
    if not report.parent.is_dir():
        fail(f"{option} {report}: {report.parent} is not a folder")


def progress_bar(unit: str = "videos") -> Progress:
    """How far a command is, on stderr: a bar on a terminal, lines in a log."""
    from vqathinker.cli.progress import make_progress

    return make_progress(unit)


def say_kept(kept: int, number: int, left: int) -> None:
    """Say how many videos an earlier run has scored, if it has any, and which of them are answered again."""
    if not kept:
        return
    with_others = left - (number - kept)
    again = (
        f"; {with_others} of them are answered again with others of their batches" if with_others > 0 else ""
    )
    typer.echo(f"{kept} of {number} videos have their results already{again}", err=True)


def show_findings(findings: Report) -> None:
    """Print the number of findings of each kind and the first unusable videos."""
    from rich.table import Table

    table = Table("finding")
    table.add_column("count", justify="right")
    for kind, count in findings.counts().items():
        table.add_row(kind, str(count))
    print_table(table)
    show_faults(findings.faults(), "; --report FILE lists all")
    for line in findings.matches.lines():
        typer.echo(line)
    if findings.is_range_doubtful:
        typer.echo(RANGE_DOUBTFUL)


def print_table(table: Table) -> None:
    """Print a table; names in brackets or between colons are names, no markup."""
    from rich.console import Console

    Console(markup=False, emoji=False).print(table)


def show_faults(faults: Mapping[str, str], where: str = "") -> None:
    """Print the first videos that cannot be used, and why."""
    for video, fault in list(faults.items())[:NUM_SHOWN]:
        typer.echo(f"{video}: {fault}")
    if len(faults) > NUM_SHOWN:
        typer.echo(f"... and {len(faults) - NUM_SHOWN} more{where}")


def _title(result: Evaluation, name: str) -> str:
    """How many videos the metrics speak of."""
    number = len(result.rows)
    scored = number - result.num_unreadable - result.metrics.num_failed
    counted = f"{number:,} videos" if scored == number else f"{scored:,} of {number:,} videos have a score"
    return f"{name}: {counted}" if name else counted


def show_metrics(result: Evaluation, name: str = "") -> None:
    """Print every metric with its interval, of several data sets each and their mean, and the counts."""
    from rich.table import Table

    from vqathinker.metrics import METRICS

    table = Table("metric", title=_title(result, name))
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for dataset, metrics in result.datasets.items():
        if len(result.datasets) > 1:
            table.add_row(dataset)
        for metric in METRICS:
            estimate = getattr(metrics, metric)
            table.add_row(metric, f"{estimate.value:.4f}", f"{estimate.low:.4f} to {estimate.high:.4f}")
        table.add_section()
    if len(result.datasets) > 1:
        table.add_row("overall, weighted by videos")
        for metric, value in result.overall().items():
            table.add_row(metric, f"{value:.4f}")
        table.add_section()
    table.add_row("unreadable files", str(result.num_unreadable))
    table.add_row("unparsed responses", str(result.metrics.num_failed))
    table.add_row("clipped scores", str(result.num_clipped))
    print_table(table)
    show_faults({row["path"]: row["error"] for row in result.rows if row["error"] is not None})
    if result.metrics.srcc.high < 0:
        typer.echo(
            "the scores fall as the labels rise: are these labels differences (DMOS), lower is better?"
        )
