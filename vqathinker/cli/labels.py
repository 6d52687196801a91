"""Label files as the commands read them: a fault is one line, what was matched another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vqathinker.cli.files import require_label_file
from vqathinker.cli.show import fail
from vqathinker.cli.usage import nearest_path

if TYPE_CHECKING:
    from datasets import Dataset

    from vqathinker.data.benchmarks import Benchmark
    from vqathinker.data.matching import Matches


@dataclass(frozen=True)
class LabelReading:
    """How to read a label file: its format, its columns and which of its rows, found or all where None."""

    split: str | None = None
    label_format: str | None = None
    video_column: str | None = None
    mos_column: str | None = None


def tell(matches: Matches) -> None:
    """Say on stderr what was matched and what could not be."""
    for line in matches.lines():
        typer.echo(line, err=True)


def load_rows(
    labels: Path,
    videos: Path,
    dataset: str | None,
    mos_range: tuple[float, float] | None,
    scale: str,
    reading: LabelReading,
    on_match: Callable[[Matches], None] = tell,
    *,
    need_video: bool = False,
) -> Dataset:
    """Read a label file or leave with what the user can correct."""
    from vqathinker.data.dataset import load_labels

    require_label_file(labels)
    require_folder(videos)
    try:
        return load_labels(
            labels,
            video_dir=videos,
            dataset=dataset,
            mos_range=mos_range,
            scale=scale,
            on_match=on_match,
            need_video=need_video,
            **asdict(reading),
        )
    except (ValueError, OSError) as error:
        fail(error)


def load_named_rows(
    name: str,
    labels: Path,
    videos: Path | None,
    reading: LabelReading,
    on_match: Callable[[Matches], None] = tell,
    *,
    need_video: bool = False,
) -> tuple[Benchmark, Dataset]:
    """Read the labels of a data set by its record, or leave with what the user can correct."""
    from vqathinker.data.benchmarks import load_benchmark, require

    if videos is not None:
        require_folder(videos)
    try:
        benchmark = require(name)
        require_label_file(labels)
        rows = load_benchmark(
            benchmark, labels, video_dir=videos, on_match=on_match, need_video=need_video, **asdict(reading)
        )
    except (ValueError, OSError) as error:
        fail(error)
    return benchmark, rows


def require_folder(videos: Path) -> None:
    """Leave if the folder of the videos is none."""
    if not videos.is_dir():
        fail(f"--videos {videos} is not a folder{nearest_path(videos)}")
