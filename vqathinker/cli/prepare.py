"""`vqathinker prepare`: what is wrong with a label file and its videos, before a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqathinker.cli.label_options import LabelOptions, read_table
from vqathinker.cli.show import fail, progress_bar, require_free, show_findings
from vqathinker.cli.usage import with_options

if TYPE_CHECKING:
    from vqathinker.data.dataset import LabelTable
    from vqathinker.data.inspection import Report


@with_options
def prepare(
    labels: Annotated[
        Path, typer.Argument(help="Label file: CSV, LSVQ CSV, FAST-VQA text, JSON or JSON Lines.")
    ],
    videos: Annotated[Path, typer.Option(help="Folder that the names in the label file start from.")],
    *,
    label_options: LabelOptions,
    keyframes: Annotated[int, typer.Option(min=1, help="Frames to decode of each video.")] = 6,
    decode: Annotated[bool, typer.Option("--decode/--no-decode", help="Decode the videos too.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Videos read at the same time.")] = 4,
    report: Annotated[Path | None, typer.Option(help="JSON file for every finding.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
) -> None:
    """Check a label file and its videos before a run.

    Exit code 0: all usable. 1: videos missing, unreadable or there twice, or most labels off the 1-5 scale.
    2: a wrong argument or label file.
    """
    require_free(report, overwrite=overwrite)
    table = read_table(labels, videos, label_options.reading())
    findings = replace(_inspect(table, keyframes if decode else 0, workers), matches=table.matches)
    show_findings(findings)
    if report is not None:
        try:
            findings.write(report, overwrite=overwrite)
        except OSError as error:
            fail(error)
    raise typer.Exit(0 if findings.is_clean else 1)


def _inspect(table: LabelTable, num_keyframes: int, num_workers: int) -> Report:
    """Inspect a data set under a progress bar, decoding nothing if `num_keyframes` is 0."""
    from vqathinker.cli.progress import counted
    from vqathinker.data.inspection import look_at, sum_up
    from vqathinker.data.label_rows import files_of

    rows = table.to_rows()
    files = list(dict.fromkeys(files_of(rows)))  # samples may ask several things of one
    with progress_bar("files") as progress:
        bar = progress.add_task("checking files", total=len(files))
        looks = counted(look_at(files, num_keyframes, num_workers), progress, bar)
        return sum_up(rows, dict(zip(files, looks, strict=True)), num_keyframes)
