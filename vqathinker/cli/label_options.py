"""Label files as the commands read them: a fault is one line, what was matched another."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqathinker.cli.require import require_label_file
from vqathinker.cli.show import fail
from vqathinker.cli.usage import nearest_path, require_choice
from vqathinker.scale import SCALES

if TYPE_CHECKING:
    from vqathinker.data.benchmarks import Benchmark
    from vqathinker.data.dataset import LabelReading, LabelTable
    from vqathinker.data.matching import Matches


@dataclass(frozen=True)
class ColumnOptions:
    """Which columns and rows of a label file are read."""

    split: Annotated[str | None, typer.Option(help="Only this split, such as train.")] = None
    label_format: Annotated[
        str | None, typer.Option("--format", help="csv, lsvq, fastvqa, json or jsonl, if detection fails.")
    ] = None
    video_column: Annotated[
        str | None,
        typer.Option(help="Column that names the videos, or its number from 1; found if omitted."),
    ] = None
    mos_column: Annotated[str | None, typer.Option(help="Column of the MOS, likewise.")] = None


@dataclass(frozen=True)
class LabelOptions(ColumnOptions):
    """How the labels of a set are read."""

    dataset: Annotated[str | None, typer.Option(help="Name of the data set.")] = None
    mos_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--range",
            help="Lowest and highest possible MOS; 0 100 unless the file says.",
            metavar="LOW HIGH",
        ),
    ] = None
    scale: Annotated[
        str | None,
        typer.Option(help="Native range to 1-5: divide (default; in builds affine), clip, affine."),
    ] = None

    @property
    def chosen_scale(self) -> str:
        """The scale, the default one if none is given."""
        return self.scale or next(iter(SCALES))

    def check(self) -> None:
        """Leave if there is no such scale."""
        require_choice("--scale", self.chosen_scale, list(SCALES))

    def reading(self) -> LabelReading:
        """As the reader of label files takes it."""
        from vqathinker.data.dataset import LabelReading

        # what has two media is left out where it has no place, with all that has no score
        return LabelReading(**asdict(self) | {"scale": self.chosen_scale, "pairs": True})


def tell(matches: Matches) -> None:
    """Say on stderr what was matched and what could not be."""
    for line in matches.lines():
        typer.echo(line, err=True)


def read_table(
    labels: Path, videos: Path | None, reading: LabelReading, *, need_video: bool = False
) -> LabelTable:
    """Read a label file or leave with what the user can correct."""
    from vqathinker.data.dataset import read_labels

    require_label_file(labels)
    if videos is not None:
        require_folder(videos)
    try:
        return read_labels(labels, videos, reading, need_video=need_video)
    except (ValueError, OSError) as error:
        fail(error)


def require_benchmark(name: str) -> Benchmark:
    """The record of a data set, or leave if there is none of this name."""
    from vqathinker.data.benchmarks import require

    try:
        return require(name)
    except ValueError as error:
        fail(error)


def require_folder(videos: Path) -> None:
    """Leave if the folder of the videos is none."""
    if not videos.is_dir():
        fail(f"--videos {videos} is not a folder{nearest_path(videos)}")
