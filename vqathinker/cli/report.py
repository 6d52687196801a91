"""`vqathinker report`: several evaluations side by side, or the rows of an ablation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqathinker.cli.show import fail, print_table, require_free
from vqathinker.cli.usage import nearest_path

if TYPE_CHECKING:
    from vqathinker.evaluation.compare import Difference
    from vqathinker.evaluation.runs import RunScores

PAPER = "VQAThinker, as published"
PAPER_SOURCE = "as published: arXiv 2508.06051, Table 8 (full model); its own prompt, weights and frames"
# the paper's Eq. 14 is Pearson's correlation of the scores themselves
TITLE = "SRCC / PLCC of the scores as they are, without a logistic mapping"
Table = tuple[list[str], list[list[str]]]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders that evaluate wrote to, or that hold such folders; of results."),
    ],
    table: Annotated[
        str | None, typer.Option(help="Table of an ablation, whose result files RUNS hold.")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Picture of the table of an ablation.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX (booktabs).")] = False,
    paper: Annotated[bool, typer.Option("--paper", help="Show the published results beside.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="One page about a folder that evaluate, score --out or training wrote."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page.")] = False,
    resamples: Annotated[int, typer.Option(min=1, help="Of the paired bootstrap between runs.")] = 1000,
) -> None:
    """Compare runs per data set and overall, and each with the first by a paired bootstrap.

    With --table NAME: an ablation instead, as recipes/ablate.py runs it. Each row's mean over the seeds with
    its 95 % t interval, its difference from another row by a paired t-test, the published one beside, and
    whether both have the same sign.

    The bootstrap draws among the videos that both runs have scored. Overall values are weighted by the
    numbers of videos, over the data sets that all runs have.

    Exit code 2: a folder without a finished result, labels that differ between the runs.
    """
    if markdown and latex:
        fail("choose one of --markdown and --latex")
    layout = "markdown" if markdown else "latex" if latex else ""
    if html is not None:
        if len(runs) > 1 or table or png or layout or paper:
            fail("--html is about one folder: leave the others out")
        write_page(runs[0], html, overwrite=overwrite)
        return
    if table is not None:
        if paper:
            fail("--table shows what is published anyway: leave --paper out")
        if png is not None and (png.suffix != ".png" or not png.parent.is_dir()):
            fail(f"--png {png}: expected FILE.png in a folder that exists")
        report_table(table, runs, layout, png)
    elif png is not None:
        fail("--png draws the table of an ablation: --table NAME")
    else:
        report_runs(runs, layout, paper=paper, resamples=resamples)


def write_page(folder: Path, html: Path, *, overwrite: bool) -> None:
    """Write the page of a folder, or leave with what the user can correct."""
    from vqathinker.web.report import report_of

    if not folder.is_dir():
        fail(f"{folder} is not a folder{nearest_path(folder)}")
    require_page(html, overwrite=overwrite)
    try:
        report_of(folder).write(html)
    except (ValueError, OSError) as error:
        fail(error)
    typer.echo(f"wrote {html}")


def require_page(html: Path, *, overwrite: bool) -> None:
    """Leave unless a page can be written there."""
    if html.suffix != ".html":
        fail(f"--html {html}: expected FILE.html")
    require_free(html, overwrite=overwrite, option="--html")


def report_runs(
    runs: Sequence[Path], layout: str = "", *, paper: bool = False, resamples: int = 1000
) -> None:
    """Print the tables, or leave with what the user can correct."""
    from vqathinker.evaluation.runs import read_run

    if len(set(map(str, runs))) < len(runs):
        fail("a run is given twice")
    for path in runs:
        if not path.exists():
            fail(f"{path} is not a folder{nearest_path(path)}")
    try:
        found = {str(path): read_run(path) for path in runs}
        tables = _tables(found, paper, resamples)
    except (ValueError, OSError) as error:
        fail(error)
    for title, table in tables.items():
        _print(title, table, layout)
    if paper:
        typer.echo(PAPER_SOURCE, err=bool(layout))


def report_table(name: str, folders: Sequence[Path], layout: str, png: Path | None) -> None:
    """Print an ablation and draw it, or leave with what the user can correct."""
    from vqathinker.evaluation.ablations import compared, reached, read_figures, read_table

    for path in folders:
        if not path.is_dir():
            fail(f"{path} is not a folder{nearest_path(path)}")
    try:
        table = read_table(name)
        figures = read_figures(folders, list(table.rows))
    except (ValueError, OSError) as error:
        fail(error)
    _print(f"{table.title}: mean over the seeds, 95 % interval", reached(table, figures), layout)
    _print("difference, 95 % interval, p of a paired t-test (uncorrected)", compared(table, figures), layout)
    if table.source:
        typer.echo(f"published figures: {table.source}", err=bool(layout))
    for name, found in figures.items():
        for seed, values in zip(found.seeds, found.domains["in_domain"], strict=True):
            if math.isnan(values[0]):
                typer.echo(f"{table.rows[name].title}, seed {seed}: no SRCC, its scores are equal", err=True)
    missing = [row.title for key, row in table.rows.items() if key not in figures]
    if missing:
        typer.echo(f"without a result yet: {', '.join(missing)}", err=True)
    if png is not None:
        from vqathinker.evaluation.plot import draw_table

        draw_table(table, figures).savefig(png, dpi=150, metadata={"Software": None})


def _tables(found: dict[str, RunScores], paper: bool, resamples: int) -> dict[str, Table]:
    """The results, and each run's difference from the first, by title."""
    from vqathinker.evaluation.compare import differences

    shared = _groups([*found.values()])
    if not shared:
        typer.echo("no data set is in all runs; give `evaluate` the same --dataset to compare them", err=True)
    tables = {TITLE: _results(found, shared, paper)}
    base, *others = found
    for name in others:
        changes = differences(found[base], found[name], shared, num_bootstrap=resamples)
        tables[f"{name} minus {base}, 95 % interval, p"] = _changes(changes)
    return tables


def _groups(runs: Sequence[RunScores]) -> dict[str, list[str]]:
    """The data sets that all runs have, one by one, then in-domain, out of domain and all together."""
    from vqathinker.data.benchmarks import BENCHMARKS

    shared = [name for name in runs[0] if all(name in run for run in runs)]
    order = [*BENCHMARKS, *(name for name in shared if name not in BENCHMARKS)]
    groups = {name: [name] for name in order if name in shared}
    for title, wanted in (("in-domain", True), ("OOD", False)):
        known = [name for name, record in BENCHMARKS.items() if record.in_domain is wanted]
        members = [name for name in known if name in shared]
        if members:
            groups[f"{title} overall ({len(members)} of {len(known)} sets)"] = members
    if len(shared) > 1:
        groups[f"overall ({len(shared)} sets)"] = shared
    return groups


def _results(runs: dict[str, RunScores], groups: dict[str, list[str]], paper: bool) -> Table:
    """A row per data set and group, a column per run; sets that some runs lack come last."""
    from vqathinker.evaluation.compare import overall_of

    rows = [
        [title, *map(_pair, overall_of([*runs.values()], names)), *([_published(names)] if paper else [])]
        for title, names in groups.items()
    ]
    partial = dict.fromkeys(name for run in runs.values() for name in run if name not in groups)
    for name in partial:
        values = [_pair(run[name].measure()) if name in run else "-" for run in runs.values()]
        rows.append([name, *values, *([_published([name])] if paper else [])])
    return ["data set", *runs, *([PAPER] if paper else [])], rows


def _published(names: Sequence[str]) -> str:
    """The paper's results on some data sets, weighted by their numbers of videos."""
    from vqathinker.data.benchmarks import BENCHMARKS
    from vqathinker.metrics import overall

    if not all(name in BENCHMARKS for name in names):
        return "-"
    records = [BENCHMARKS[name] for name in names]
    counts = [record.num_videos for record in records]
    return _pair([overall(values, counts) for values in zip(*(r.paper for r in records), strict=True)])


def _changes(changes: dict[str, Difference]) -> Table:
    from vqathinker.evaluation.compare import COMPARED

    rows = []
    for title, difference in changes.items():
        cells = [
            f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}] {p:.3f}"
            for change, p in zip(difference.change, difference.p_value, strict=True)
        ]
        rows.append([title, str(difference.num_videos), *cells])
    return ["data set", "videos", *COMPARED], rows


def _pair(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


def _print(title: str, table: Table, layout: str) -> None:
    from rich.table import Table as RichTable

    from vqathinker.evaluation import markup

    header, rows = table
    if layout:
        comment = f"% {title}\n" if layout == "latex" else f"{title}\n\n"
        typer.echo(comment + getattr(markup, layout)(header, rows))
        return
    shown = RichTable(header[0], title=title)
    for name in header[1:]:
        shown.add_column(name, justify="right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    print_table(shown)
