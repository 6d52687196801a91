"""Label files as the commands read them: a fault is one line, what was matched by stem another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vqathinker.cli.show import fail

if TYPE_CHECKING:
    from datasets import Dataset

    from vqathinker.media.benchmarks import Benchmark
    from vqathinker.media.matching import Matches


def tell(matches: Matches) -> None:
    """Say on stderr what was matched by stem and what could not be."""
    for line in matches.lines():
        typer.echo(line, err=True)


def load_rows(
    labels: Path,
    videos: Path,
    dataset: str | None,
    mos_range: tuple[float, float] | None,
    scale: str,
    split: str | None,
    label_format: str | None,
    on_match: Callable[[Matches], None] = tell,
) -> Dataset:
    """Read a label file or leave with what the user can correct."""
    from vqathinker.media.dataset import load_labels

    require_folder(videos)
    try:
        return load_labels(
            labels,
            video_dir=videos,
            dataset=dataset,
            mos_range=mos_range,
            scale=scale,
            split=split,
            label_format=label_format,
            on_match=on_match,
        )
    except (ValueError, OSError) as error:
        fail(error)


def load_named_rows(
    name: str,
    labels: Path,
    videos: Path | None,
    split: str | None,
    label_format: str | None,
    on_match: Callable[[Matches], None] = tell,
) -> tuple[Benchmark, Dataset]:
    """Read the labels of a data set by its record, or leave with what the user can correct."""
    from vqathinker.media.benchmarks import load_benchmark, require

    if videos is not None:
        require_folder(videos)
    try:
        benchmark = require(name)
        options = {"split": split, "label_format": label_format}
        return benchmark, load_benchmark(benchmark, labels, video_dir=videos, on_match=on_match, **options)
    except (ValueError, OSError) as error:
        fail(error)


def require_folder(videos: Path) -> None:
    """Leave if the folder of the videos is none."""
    if not videos.is_dir():
        fail(f"--videos {videos} is not a folder")
