"""What people call: `vqathinker COMMAND`.

Commands import what they need when they run, so that the help is there at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqathinker import __version__
from vqathinker.cli.convert import MOTIONS, TARGETS, convert, require_source
from vqathinker.cli.datasets import datasets
from vqathinker.cli.doctor import doctor
from vqathinker.cli.evaluate import evaluate
from vqathinker.cli.files import read_prompt, require_new, require_size, require_slowfast
from vqathinker.cli.labels import LabelReading, load_rows
from vqathinker.cli.merge import merge
from vqathinker.cli.options import (
    DatasetName,
    LabelFile,
    LabelFormat,
    MosColumn,
    NativeRange,
    Scale,
    Split,
    VideoColumn,
    VideoFolder,
    Workers,
)
from vqathinker.cli.plan import plan
from vqathinker.cli.report import report as report_command
from vqathinker.cli.score import score
from vqathinker.cli.serve import serve
from vqathinker.cli.show import fail, progress_bar, require_free, show_findings
from vqathinker.cli.train import train
from vqathinker.cli.usage import Commands, require_choice
from vqathinker.scoring.settings import DTYPES

if TYPE_CHECKING:
    from datasets import Dataset

    from vqathinker.data.matching import Matches
    from vqathinker.data.prepare import Report

app = typer.Typer(
    cls=Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_show_locals=False
)


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        typer.echo(f"vqathinker {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Print the version.")
    ] = False,
) -> None:
    """Train video language models that reason about video quality, and score videos with them."""


@app.command()
def prepare(
    labels: LabelFile,
    videos: VideoFolder,
    dataset: DatasetName = None,
    mos_range: NativeRange = None,
    scale: Scale = "divide",
    split: Split = None,
    label_format: LabelFormat = None,
    video_column: VideoColumn = None,
    mos_column: MosColumn = None,
    keyframes: Annotated[int, typer.Option(min=1, help="Frames to decode of each video.")] = 6,
    decode: Annotated[bool, typer.Option("--decode/--no-decode", help="Decode the videos too.")] = True,
    workers: Workers = 4,
    report: Annotated[Path | None, typer.Option(help="JSON file for every finding.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
) -> None:
    """Check a label file and its videos before a run.

    Exit code 0: all usable. 1: videos missing, unreadable or there twice, or most labels off the 1-5 scale.
    2: a wrong argument or label file.
    """
    require_free(report, overwrite=overwrite)
    matched: list[Matches] = []
    reading = LabelReading(split, label_format, video_column, mos_column)
    rows = load_rows(labels, videos, dataset, mos_range, scale, reading, matched.append)
    findings = replace(_inspect(rows, keyframes if decode else 0, workers), matches=matched[0])
    show_findings(findings)
    if report is not None:
        try:
            findings.write(report, overwrite=overwrite)
        except OSError as error:
            fail(error)
    raise typer.Exit(0 if findings.is_clean else 1)


@app.command()
def init(
    internvl: Annotated[
        str, typer.Option(help="A published InternVL3 or InternVL3.5: folder or hub id (-hf or not).")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the checkpoint to.")],
    slowfast: Annotated[
        Path | None, typer.Option(help="SLOWFAST_8x8_R50 checkpoint of pytorchvideo.")
    ] = None,
    motion: Annotated[str, typer.Option(help="Motion tokens: slowfast, fast or none.")] = "slowfast",
    prompt: Annotated[Path | None, typer.Option(help="Question (text) or whole wording (YAML).")] = None,
    num_frames: Annotated[int | None, typer.Option(min=1, help="Keyframes in training: 6.")] = None,
    frame_size: Annotated[int | None, typer.Option(help="Their side in pixels: 448.")] = None,
    scoring_num_frames: Annotated[int | None, typer.Option(min=1, help="Keyframes in scoring: 12.")] = None,
    scoring_frame_size: Annotated[int | None, typer.Option(help="Their side: 560.")] = None,
    dtype: Annotated[
        str, typer.Option(help="Precision to write: auto, bfloat16, float16 or float32.")
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier call wrote.")
    ] = False,
) -> None:
    """Put a checkpoint together from a published InternVL3 and a published SlowFast.

    Exit code 2: a part is missing or does not fit.
    """
    require_choice("--motion", motion, MOTIONS)
    require_choice("--dtype", dtype, DTYPES)
    require_slowfast(slowfast)
    require_size("--frame-size", frame_size)
    require_size("--scoring-frame-size", scoring_frame_size)
    wording = read_prompt(prompt)
    require_new(out, overwrite=overwrite)
    require_source(internvl, motion=motion, slowfast=slowfast, target=TARGETS[0])
    options = {
        "num_frames": num_frames,
        "frame_size": frame_size,
        "scoring_num_frames": scoring_num_frames,
        "scoring_frame_size": scoring_frame_size,
    }
    # torch takes seconds to import: everything above does without
    from vqathinker.checkpoints.assemble import assemble

    try:
        assemble(
            internvl,
            slowfast,
            out,
            motion=motion,
            prompt=wording,
            dtype=dtype,
            overwrite=overwrite,
            # what is not given stays the assembly's default
            **{name: value for name, value in options.items() if value is not None},
        )
    except (ValueError, OSError) as error:
        fail(error)
    typer.echo(f"wrote {out}")


app.command()(convert)
app.command()(merge)
app.command()(score)
app.command()(evaluate)
app.command()(datasets)
app.command("report")(report_command)
app.command()(doctor)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)(train)
for command in (plan, serve):
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(command)


def _inspect(rows: Dataset, num_keyframes: int, num_workers: int) -> Report:
    """Inspect a data set under a progress bar, decoding nothing if `num_keyframes` is 0."""
    from vqathinker.data.prepare import inspect

    with progress_bar() as progress:
        task = progress.add_task("checking videos", total=rows.num_rows)
        return inspect(
            rows,
            num_keyframes=num_keyframes,
            num_workers=num_workers,
            decode=num_keyframes > 0,
            on_video=lambda: progress.advance(task),
        )
