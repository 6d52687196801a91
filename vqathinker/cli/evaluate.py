"""`vqathinker evaluate`: scores and metrics for a labelled data set, in as many runs as it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqathinker.cli.datasets import show_differences
from vqathinker.cli.labels import Reading, load_named_rows, load_rows
from vqathinker.cli.options import (
    AnswerOnly,
    BatchSize,
    Checkpoint,
    Combine,
    DatasetName,
    Device,
    Engine,
    Expected,
    LabelFormat,
    Levels,
    MaxNewTokens,
    MosColumn,
    NativeRange,
    Precision,
    Samples,
    Split,
    TimeLimit,
    VideoColumn,
    VideoFolder,
    Workers,
)
from vqathinker.cli.show import OUT_OF_MEMORY, RANGE_DOUBTFUL, fail, progress_bar, show_metrics

if TYPE_CHECKING:
    from datasets import Dataset

    from vqathinker.evaluation import Evaluation

INTERRUPTED = 130


def evaluate(
    checkpoint: Checkpoint,
    source: Annotated[
        str,
        typer.Argument(metavar="LABELS|NAME", help="Label file, or a name that `vqathinker datasets` lists."),
    ],
    videos: VideoFolder,
    labels: Annotated[
        Path | None, typer.Option(help="Label file of the named data set; its scale is known.")
    ] = None,
    dataset: DatasetName = None,
    mos_range: NativeRange = None,
    scale: Annotated[
        str | None, typer.Option(help="Native range to 1-5: divide (default), clip, affine.")
    ] = None,
    split: Split = None,
    label_format: LabelFormat = None,
    video_column: VideoColumn = None,
    mos_column: MosColumn = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results, each written as it comes.")
    ] = None,
    samples: Samples = 1,
    combine: Combine = "mean",
    expected: Expected = False,
    levels: Levels = False,
    engine: Engine = "hf",
    device: Device = None,
    dtype: Precision = "float32",
    time_limit: TimeLimit = 60,
    batch_size: BatchSize = 16,
    workers: Workers = 4,
    max_new_tokens: MaxNewTokens = 2048,
    answer_only: AnswerOnly = False,
    num_shards: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the videos; 1, or those of the launcher.")
    ] = None,
    shard: Annotated[int | None, typer.Option(min=0, help="Which of them this is, from 0.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
) -> None:
    """Score the videos of a label file and compare with their labels: LABELS, or NAME with --labels FILE.

    The same command again goes on where the last one stopped, and tries unreadable files again.

    Exit code 0: all read. 1: unreadable files. 2: a wrong argument, label file or checkpoint, or a full disk.
    130: interrupted.
    """
    part = _shard(shard, num_shards, out)
    if engine == "vllm" and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        fail("a launcher's vLLM engines would share one GPU: --num-shards and CUDA_VISIBLE_DEVICES instead")
    reading = Reading(split, label_format, video_column, mos_column)
    rows, scale = _labelled(source, labels, videos, (dataset, mos_range, scale), reading)
    if not any(map(os.path.isfile, rows["path"])):
        fail(f"none of the {rows.num_rows} videos, such as {rows[0]['path']}, is there: check --videos")
    names = {"checkpoint": str(checkpoint), "labels": (labels or Path(source)).name}
    origin: dict[str, Any] = names | {"split": split, "scale": scale}
    use = {"engine": engine, "device": device or _own_gpu(), "dtype": dtype, "time_limit": time_limit}
    use |= {"batch_size": batch_size, "num_workers": workers, "max_new_tokens": max_new_tokens}
    mode = {"samples": samples, "combine": combine, "expected": expected, "levels": levels}
    keep: dict[str, Any] = {"out": out, "overwrite": overwrite, "shard": part}
    with _told(out):
        result = _run(checkpoint, rows, use | {"think": not answer_only}, mode, origin=origin, **keep)
    _leave(result, part)


def _labelled(
    source: str,
    labels: Path | None,
    videos: Path,
    named: tuple[str | None, tuple[float, float] | None, str | None],
    reading: Reading,
) -> tuple[Dataset, str]:
    """The rows of a label file or of a named data set, and how their labels reach 1-5."""
    from vqathinker.media.dataset import off_scale

    if labels is None:
        _require_file(source)
        dataset, mos_range, scale = named[0], named[1], named[2] or "divide"
        rows = load_rows(Path(source), videos, dataset, mos_range, scale, reading)
        if 2 * off_scale(rows["target"]).sum() > rows.num_rows:
            typer.echo(RANGE_DOUBTFUL, err=True)
        return rows, scale
    if any(named):
        fail(f"name, range and scale of {source} are known: leave --dataset, --range and --scale out")
    benchmark, rows = load_named_rows(source, labels, videos, reading)
    show_differences(benchmark, rows)
    return rows, benchmark.scale


def _leave(result: Evaluation, shard: tuple[int, int]) -> None:
    """Show the metrics, or what is left to others, and leave with the code that the files deserve."""
    if result.num_pending:
        index, number = shard
        typer.echo(f"shard {index} of {number} is done, {result.num_pending} videos are left to the others")
        raise typer.Exit(0)
    show_metrics(result)
    # a launcher stops the other processes of one that fails: its shards tell by what they print
    raise typer.Exit(1 if result.num_unreadable and "WORLD_SIZE" not in os.environ else 0)


@contextmanager
def _told(out: Path | None) -> Iterator[None]:
    """Leave with one line for what the user can correct, and say what is kept."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        fail(f"{OUT_OF_MEMORY}{_and_kept(out)}")
    except OSError as error:
        fail(f"{error}{_and_kept(out)}")
    except (ValueError, ImportError) as error:
        fail(error)
    except KeyboardInterrupt:
        typer.echo(f"interrupted{_and_kept(out) or '; nothing is kept without --out'}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _require_file(source: str) -> None:
    """Leave if a data set is named without its label file."""
    from vqathinker.media.benchmarks import find

    if find(source) is not None and not Path(source).is_file():
        fail(f"{source} needs its label file: --labels FILE")


def _shard(shard: int | None, num_shards: int | None, out: Path | None) -> tuple[int, int]:
    """Index and number of processes, from the options or the launcher's environment."""
    if (shard is None) != (num_shards is None):
        fail("--shard and --num-shards need one another")
    if shard is None or num_shards is None:
        shard, num_shards = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if shard >= num_shards:
        fail(f"--shard {shard} does not exist among --num-shards {num_shards}: they count from 0")
    if num_shards > 1 and out is None:
        fail("several processes need --out, the folder where they put their results together")
    return shard, num_shards


def _run(
    checkpoint: Path, rows: Dataset, use: dict[str, Any], mode: dict[str, Any], **options: Any
) -> Evaluation:
    """Load the checkpoint and score under a progress bar."""
    from vqathinker.evaluation import check_folder, evaluate
    from vqathinker.scoring import Mode, Scorer

    Mode(**mode)
    if options["out"] is not None:
        check_folder(options["out"], overwrite=options["overwrite"], shard=options["shard"])
    with Scorer.from_pretrained(checkpoint, **use) as scorer, progress_bar() as progress:
        task = progress.add_task("scoring videos", total=None)

        def plan(kept: int, left: int) -> None:
            if kept:
                progress.console.print(f"{kept} of {rows.num_rows} videos have their results already")
            progress.update(task, total=left)

        return evaluate(
            scorer, rows, on_plan=plan, on_video=lambda _: progress.advance(task), **options, **mode
        )


def _own_gpu() -> str | None:
    """The GPU that a launcher gave this process."""
    import torch

    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if rank is not None and torch.cuda.is_available() else None


def _and_kept(out: Path | None) -> str:
    """Say what an ended run leaves."""
    if out is None:
        return ""
    from vqathinker.evaluation import read_all

    return f"; {len(read_all(out))} results are in {out}, the same command goes on from there"
