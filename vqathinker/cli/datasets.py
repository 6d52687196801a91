"""`vqathinker datasets`: the test sets whose scale, size and names are known; a check of your copies."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from vqathinker.cli.label_options import (
    ColumnOptions,
    read_table,
    require_benchmark,
    require_folder,
    tell,
)
from vqathinker.cli.require import require_label_file
from vqathinker.cli.show import NUM_SHOWN, fail, print_table
from vqathinker.cli.usage import with_options
from vqathinker.nearest import alike, no_data_set

if TYPE_CHECKING:
    from datasets import Dataset

    from vqathinker.data.benchmarks import Benchmark
    from vqathinker.data.matching import Matches
    from vqathinker.data.question_sets import QuestionSet


@with_options
def datasets(
    name: Annotated[str | None, typer.Argument(help="One of those listed; all are without it.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Label file to check.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Folder of its videos.")] = None,
    *,
    column_options: ColumnOptions,
) -> None:
    """List the known test sets and sets of questions, or check a file and a folder of videos against one.

    Exit code 0: all as it should be. 1: labels or videos differ from the record. 2: a wrong argument or
    label file.
    """
    if name is not None:
        require_name(name)
    if name is None:
        if labels or videos:
            fail("name the data set that these labels and videos belong to")
        return show_benchmarks()
    if labels is None:
        if videos:
            fail("--videos needs --labels FILE, which names the videos")
        return show_benchmark(name)
    if question_set(name) is not None:
        check_questions(name, labels, videos)
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


def question_set(name: str) -> QuestionSet | None:
    """The record of a set of questions, None if there is none of this name."""
    from vqathinker.data.question_sets import QUESTION_SETS

    return alike(name, QUESTION_SETS)


def require_name(name: str) -> None:
    """Leave if there is no data set of this name."""
    from vqathinker.data.benchmarks import BENCHMARKS
    from vqathinker.data.question_sets import QUESTION_SETS

    known = [*BENCHMARKS, *QUESTION_SETS]
    if alike(name, dict.fromkeys(known, name)) is None:
        fail(no_data_set(name, known))


def check_questions(name: str, file: Path, videos: Path | None) -> NoReturn:
    """Say what differs from the record of a set of questions, and leave."""
    from vqathinker.data.question_sets import differences, missing_media
    from vqathinker.samples import read_samples

    one = question_set(name)
    assert one is not None, "asked before"
    require_label_file(file)
    if videos is not None:
        require_folder(videos)
    try:
        samples = read_samples(file)
    except (ValueError, OSError) as error:
        fail(error)
    typer.echo(f"{one.name}: {len(samples)} questions")
    lines = differences(one, samples)
    missing = [] if videos is None else missing_media(samples, videos)
    lines += [f"{path}: no such file" for path in missing[:NUM_SHOWN]]
    if len(missing) > NUM_SHOWN:
        lines.append(f"... and {len(missing) - NUM_SHOWN} more")
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(1 if lines else 0)


def show_benchmarks() -> None:
    """Print all records as a table."""
    from rich.table import Table

    from vqathinker.data.benchmarks import BENCHMARKS
    from vqathinker.data.question_sets import QUESTION_SETS

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
    print_table(table)
    questions = Table("questions", box=None, padding=(0, 2, 0, 0))
    for title in ("number", "videos"):
        questions.add_column(title, justify="right")
    questions.add_column("file", no_wrap=True)
    for one in QUESTION_SETS.values():
        questions.add_row(one.name, str(one.num_questions), str(one.num_media), one.file)
    print_table(questions)
    typer.echo("vqathinker datasets NAME says where to obtain one and how its files are named")


def show_benchmark(name: str) -> None:
    """Print one record."""
    questions = question_set(name)
    if questions is not None:
        counted = ", ".join(
            f"{kind} {number}" for kind, number in (questions.kinds or questions.keys).items()
        )
        numbers = f"{questions.num_questions} questions about {questions.num_media} videos"
        typer.echo(f"""{questions.name}: {numbers}
kinds       {counted or "options A to D or E"}
from        {questions.source}
file        {questions.file}
ask         vqathinker ask-set CHECKPOINT {questions.file} --videos FOLDER""")
        return
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
