"""What people call: `vqathinker COMMAND`.

Commands import what they need when they run, so that the help is there at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from datasets import Dataset

    from vqathinker.media.prepare import Report

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_show_locals=False)
USER_ERROR = 2
NUM_SHOWN = 10
MOTIONS = ("slowfast", "fast", "none")
DTYPES = ("auto", "bfloat16", "float16", "float32")


@app.callback()
def main() -> None:
    """Train video language models that reason about video quality, and score videos with them."""


def fail(message: object) -> NoReturn:
    """Say what the user can correct in one line and leave with code 2."""
    typer.echo(f"Error: {' '.join(str(message).split())}", err=True)
    raise typer.Exit(USER_ERROR)


@app.command()
def prepare(
    labels: Annotated[Path, typer.Argument(help="Label file: CSV, LSVQ CSV, FAST-VQA text or JSON.")],
    videos: Annotated[Path, typer.Option(help="Folder that the names in the label file start from.")],
    dataset: Annotated[str | None, typer.Option(help="Name of the data set.")] = None,
    mos_range: Annotated[
        tuple[float, float],
        typer.Option("--range", help="Lowest and highest possible MOS.", metavar="LOW HIGH"),
    ] = (0.0, 100.0),
    scale: Annotated[str, typer.Option(help="Native range to 1-5: divide, clip or affine.")] = "divide",
    split: Annotated[str | None, typer.Option(help="Only this split, such as train.")] = None,
    label_format: Annotated[
        str | None, typer.Option("--format", help="csv, lsvq, fastvqa or json, if detection fails.")
    ] = None,
    keyframes: Annotated[int, typer.Option(min=1, help="Frames to decode of each video.")] = 6,
    decode: Annotated[bool, typer.Option("--decode/--no-decode", help="Decode the videos too.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Videos checked at the same time.")] = 4,
    report: Annotated[Path | None, typer.Option(help="JSON file for every finding.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
) -> None:
    """Check a label file and its videos before a run.

    Exit code 0: all usable. 1: videos missing, unreadable or there twice. 2: a wrong argument or label file.
    """
    from vqathinker.media.dataset import load_labels

    if report is not None and report.exists() and not overwrite:
        fail(f"{report} exists; give --overwrite to replace it")
    if not videos.is_dir():
        fail(f"--videos {videos} is not a folder")
    try:
        rows = load_labels(
            labels,
            video_dir=videos,
            dataset=dataset,
            mos_range=mos_range,
            scale=scale,
            split=split,
            label_format=label_format,
        )
    except (ValueError, OSError) as error:
        fail(error)
    findings = _inspect(rows, keyframes if decode else 0, workers)
    _show(findings)
    if report is not None:
        try:
            findings.write(report, overwrite=overwrite)
        except OSError as error:
            fail(error)
    raise typer.Exit(0 if findings.is_clean else 1)


@app.command()
def init(
    internvl: Annotated[
        str, typer.Option(help="InternVL3 in the Hugging Face format: folder or hub id (-hf).")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the checkpoint to.")],
    slowfast: Annotated[
        Path | None, typer.Option(help="SLOWFAST_8x8_R50 checkpoint of pytorchvideo.")
    ] = None,
    motion: Annotated[str, typer.Option(help="Motion tokens: slowfast, fast or none.")] = "slowfast",
    prompt: Annotated[Path | None, typer.Option(help="Question (text) or whole wording (YAML).")] = None,
    num_frames: Annotated[int | None, typer.Option(help="Keyframes in training, 6 by default.")] = None,
    frame_size: Annotated[int | None, typer.Option(help="Their side in pixels, 448 by default.")] = None,
    scoring_num_frames: Annotated[
        int | None, typer.Option(help="Keyframes in scoring, 12 by default.")
    ] = None,
    scoring_frame_size: Annotated[int | None, typer.Option(help="Their side, 560 by default.")] = None,
    dtype: Annotated[
        str, typer.Option(help="Precision to write: auto, bfloat16, float16 or float32.")
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that holds files.")
    ] = False,
) -> None:
    """Put a checkpoint together from a published InternVL3 and a published SlowFast.

    Exit code 2: a part is missing or does not fit.
    """
    if motion not in MOTIONS:
        fail(f"unknown motion {motion!r}, choose one of {', '.join(MOTIONS)}")
    if dtype not in DTYPES:
        fail(f"unknown dtype {dtype!r}, choose one of {', '.join(DTYPES)}")
    if slowfast is not None and not slowfast.is_file():
        fail(f"--slowfast {slowfast} is not a file")
    options = {
        "num_frames": num_frames,
        "frame_size": frame_size,
        "scoring_num_frames": scoring_num_frames,
        "scoring_frame_size": scoring_frame_size,
    }
    from vqathinker.model.assemble import assemble
    from vqathinker.prompts import Prompt

    try:
        assemble(
            internvl,
            slowfast,
            out,
            motion=motion,
            prompt=None if prompt is None else Prompt.from_file(prompt),
            dtype=dtype,
            overwrite=overwrite,
            **{name: value for name, value in options.items() if value is not None},
        )
    except (ValueError, OSError) as error:
        fail(error)
    typer.echo(f"wrote {out}")


def _inspect(rows: Dataset, num_keyframes: int, num_workers: int) -> Report:
    """Inspect a data set under a progress bar, decoding nothing if `num_keyframes` is 0."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vqathinker.media.prepare import inspect

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("checking videos", total=rows.num_rows)
        return inspect(
            rows,
            num_keyframes=num_keyframes,
            num_workers=num_workers,
            decode=num_keyframes > 0,
            on_video=lambda: progress.advance(task),
        )


def _show(findings: Report) -> None:
    """Print the number of findings of each kind and the first unusable videos."""
    from rich.console import Console
    from rich.table import Table

    table = Table("finding")
    table.add_column("count", justify="right")
    for kind, count in findings.counts().items():
        table.add_row(kind, str(count))
    Console().print(table)
    faults = {**dict.fromkeys(findings.missing, "no such file"), **findings.unreadable}
    for video, fault in list(faults.items())[:NUM_SHOWN]:
        typer.echo(f"{video}: {fault}")
    if len(faults) > NUM_SHOWN:
        typer.echo(f"... and {len(faults) - NUM_SHOWN} more; --report FILE lists all")
