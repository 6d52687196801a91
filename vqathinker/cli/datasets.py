"""`vqathinker datasets`: the test sets whose scale, size and names are known; a check of your copies."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqathinker.cli.label_options import ColumnOptions, read_table, require_benchmark, tell
from vqathinker.cli.show import NUM_SHOWN, fail
from vqathinker.cli.usage import with_options

if TYPE_CHECKING:
    from datasets import Dataset

    from vqathinker.data.benchmarks import Benchmark
    from vqathinker.data.matching import Matches


@with_options
def datasets(
    name: Annotated[str | None, typer.Argument(help="One of those listed; all are without it.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Label file to check.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Folder of its videos.")] = None,
    *,
    column_options: ColumnOptions,
) -> None:
    """List the known test sets, or check a label file and a folder of videos against one of them.

    Exit code 0: all as it should be. 1: labels or videos differ from the record. 2: a wrong argument or
    label file.
    """
    if name is None:
        if labels or videos:
            fail("name the data set that these labels and videos belong to")
        return show_benchmarks()
    if labels is None:
        if videos:
            fail("--videos needs --labels FILE, which names the videos")
        return show_benchmark(name)
    benchmark = require_benchmark(name)
    table = read_table(labels, videos, benchmark.reading(**asdict(column_options)))
    rows = table.to_rows()
    low = rows["mos_low"][0]
    high = rows["mos_high"][0]
    typer.echo(
        f"{benchmark.name}: {rows.num_rows} labels, {min(rows['mos']):g} to {max(rows['mos']):g} "
        f"on a scale of {low:g} to {high:g}, {_orientation(benchmark)}"
    )
    is_right = show_differences(benchmark, rows)
    if videos is not None:
        is_right = _show_videos(rows, table.matches) and is_right
    raise typer.Exit(0 if is_right else 1)


def show_differences(benchmark: Benchmark, rows: Dataset) -> bool:
    """Say on stderr what differs from the record, and return whether nothing does."""
    from vqathinker.data.benchmarks import findings

    lines = findings(benchmark, rows)
    for line in lines:
        typer.echo(line, err=True)
    return not lines


def _show_videos(rows: Dataset, matches: Matches) -> bool:
    """Say how many videos are there and which are not; return whether all are."""
    missing = [
        video for video, path in zip(rows["video_id"], rows["path"], strict=True) if not os.path.exists(path)
    ]
    typer.echo(f"{rows.num_rows - len(missing)} of {rows.num_rows} videos are there")
    tell(matches)
    for video in missing[:NUM_SHOWN]:
        typer.echo(f"{video}: no such file", err=True)
    if len(missing) > NUM_SHOWN:
        typer.echo(f"... and {len(missing) - NUM_SHOWN} more", err=True)
    return not missing


def show_benchmarks() -> None:
    """Print all records as a table."""
    from rich.console import Console
    from rich.table import Table

    from vqathinker.data.benchmarks import BENCHMARKS

    # without a frame the names of the label files fit into 80 columns
    table = Table("name", box=None, padding=(0, 2, 0, 0))
    table.add_column("videos", justify="right")
    for title in ("MOS", "domain", "label file"):
        table.add_column(title, no_wrap=True)
    for benchmark in BENCHMARKS.values():
        domain = "in" if benchmark.in_domain else "out"
        scale = f"{benchmark.low:g} to {benchmark.high:g}"
        scale += "" if benchmark.higher_is_better else ", lower is better"
        table.add_row(benchmark.name, str(benchmark.num_videos), scale, domain, benchmark.label_file)
    Console().print(table)
    typer.echo("vqathinker datasets NAME says where to obtain one and how its files are named")


def show_benchmark(name: str) -> None:
    """Print one record."""
    benchmark = require_benchmark(name)
    scales = [f"{benchmark.low * factor:g} to {benchmark.high * factor:g}" for factor in benchmark.factors]
    typer.echo(f"""{benchmark.name}, {"in-domain" if benchmark.in_domain else "out of domain"}
videos      {benchmark.num_videos}
MOS         {" or ".join(scales)}, {_orientation(benchmark)}; to 1-5 by {benchmark.scale}
from        {benchmark.source}
label file  {benchmark.label_file}
names       {benchmark.names}""")


def _orientation(benchmark: Benchmark) -> str:
    return f"{'higher' if benchmark.higher_is_better else 'lower'} is better"
