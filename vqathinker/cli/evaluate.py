"""`vqathinker evaluate`: scores and metrics for labelled data sets, in as many runs as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqathinker.cli.label_options import LabelOptions
from vqathinker.cli.options import CheckpointName, EngineOptions, KeepOptions, ModeOptions, require_keeping
from vqathinker.cli.require import require_checkpoint, require_room
from vqathinker.cli.sets import LabelledSet, read_sets
from vqathinker.cli.show import (
    errors_in_a_line,
    fail,
    leave,
    progress_bar,
    same_command,
    say_kept,
    show_metrics,
)
from vqathinker.cli.usage import with_options

if TYPE_CHECKING:
    from vqathinker.evaluation import Evaluating, Evaluation, Keeping


@with_options
def evaluate(
    checkpoint: CheckpointName,
    source: Annotated[
        str | None,
        typer.Argument(metavar="LABELS|NAME", help="Label file, or a name that `vqathinker datasets` lists."),
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="Folder that the names in the label file start from.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Label file of the named data set; its scale is known.")
    ] = None,
    sets: Annotated[
        Path | None,
        typer.Option(help="YAML file of several sets, each NAME: {labels: FILE, videos: FOLDER, ...}."),
    ] = None,
    *,
    label_options: LabelOptions,
    keep: KeepOptions,
    mode: ModeOptions,
    engine: EngineOptions,
) -> None:
    """Score labelled videos and compare with their labels: LABELS, NAME with --labels FILE, or --sets FILE.

    With --out FOLDER the same command again goes on where the last one stopped, and tries unreadable files
    again. Of several sets each has a folder of its name there; the checkpoint is loaded once.

    Exit code 0: all read. 1: unreadable files. 2: a wrong argument, label file or checkpoint, or a full disk.
    130: interrupted.
    """
    shard = keep.part(engine.engine)
    engine.check(mode)
    how = mode.to_mode()
    chosen = _sets(source, videos, labels, sets, label_options)
    if len(chosen) > 1 and keep.out is None:
        fail("--sets needs --out, the folder for the results of each set")
    keepings = []
    for one in chosen:
        one.check()
        keepings.append(_keeping(one, keep, shard, checkpoint))
    # whatever can be wrong is told before a model is loaded
    folder = require_checkpoint(checkpoint)
    require_room(folder, engine.max_new_tokens)
    loaded = [one.load() for one in chosen]
    from vqathinker.evaluation import Evaluating

    with errors_in_a_line(partial(kept_note, keepings)), engine.load(folder) as scorer:
        results = []
        for one, rows, keeping in zip(chosen, loaded, keepings, strict=True):
            results.append(_run(Evaluating(scorer, rows, keeping, how), one.folder))
            _show(one, results[-1], shard)
    _leave(chosen, results, keep)


def _sets(
    source: str | None,
    videos: Path | None,
    labels: Path | None,
    sets: Path | None,
    options: LabelOptions,
) -> list[LabelledSet]:
    """The sets to evaluate on, or leave if the arguments contradict one another."""
    if sets is not None:
        if source or videos or labels or options != LabelOptions():
            fail("--sets FILE says which labels and videos, and how they are read: leave the others out")
        return read_sets(sets)
    if source is None:
        fail("Missing argument LABELS|NAME: a label file, the name of a data set, or --sets FILE")
    if videos is None:
        fail("Missing option --videos, the folder that the names in the label file start from")
    return [LabelledSet(source, videos, labels, options)]


def _keeping(one: LabelledSet, keep: KeepOptions, shard: tuple[int, int], checkpoint: str) -> Keeping:
    """Where the results of a set are kept, or leave if they may not be."""
    from vqathinker.evaluation import Keeping

    origin = {
        "checkpoint": checkpoint,
        "labels": one.label_file.name,
        "split": one.options.split,
        "scale": one.reading.scale,
    }
    out = None if keep.out is None else keep.out / one.folder
    keeping = Keeping(out, overwrite=keep.overwrite, shard=shard, origin=origin)
    require_keeping(keeping)
    return keeping


def _run(evaluating: Evaluating, name: str) -> Evaluation:
    """Score one set under a progress bar."""
    with evaluating as scores, progress_bar() as progress:
        say_kept(len(scores.kept), scores.dataset.num_rows, len(scores.left))
        bar = progress.add_task(f"scoring {name}".rstrip(), total=len(scores.left))
        for _ in scores:
            progress.advance(bar)
    return evaluating.result()


def _show(one: LabelledSet, result: Evaluation, shard: tuple[int, int]) -> None:
    """Show the metrics of one set, or what is left to others."""
    if not result.num_pending:
        show_metrics(result, one.folder)
        return
    index, number = shard
    of_set = f"{one.folder}: " if one.folder else ""
    typer.echo(
        f"{of_set}shard {index} of {number} is done, {result.num_pending} videos are left to the others"
    )


def _leave(chosen: list[LabelledSet], results: list[Evaluation], keep: KeepOptions) -> None:
    """Show several sets side by side, and leave with the code that the files deserve."""
    if any(result.num_pending for result in results):
        raise typer.Exit(0)
    if len(chosen) > 1:
        from vqathinker.cli.report import report_runs

        assert keep.out is not None
        report_runs([keep.out])
        typer.echo(f"`vqathinker report {keep.out}` shows this again, beside other runs")
    leave(failed=any(result.num_unreadable for result in results))


def kept_note(keepings: Sequence[Keeping]) -> str:
    """What a run leaves that ends on its way, as the rest of a sentence."""
    from vqathinker.journal import read_entries

    folders = [keeping.folder for keeping in keepings if keeping.folder is not None]
    if not folders:
        return "; nothing is kept without --out"
    number = sum(len({entry["row"] for entry in read_entries(folder)}) for folder in folders)
    where = folders[0] if len(folders) == 1 else folders[0].parent
    return f"; {number} results are in {where}, {same_command(keepings[0])} goes on from there"
