"""Label files as the commands read them: a fault is one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vqathinker.cli.show import fail

if TYPE_CHECKING:
    from datasets import Dataset


def load_rows(
    labels: Path,
    videos: Path,
    dataset: str | None,
    mos_range: tuple[float, float] | None,
    scale: str,
    split: str | None,
    label_format: str | None,
) -> Dataset:
    """Read a label file or leave with what the user can correct."""
    from vqathinker.media.dataset import load_labels

    if not videos.is_dir():
        fail(f"--videos {videos} is not a folder")
    try:
        return load_labels(
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
