"""Files and folders that commands read and write, looked at before anything that takes long."""

from __future__ import annotations

from pathlib import Path

from vqathinker.cli.show import fail
from vqathinker.cli.usage import nearest_path
from vqathinker.prompts import Prompt
from vqathinker.types import PIXELS_PER_TOKEN


def require_label_file(labels: Path) -> None:
    """Leave if there is no such label file."""
    if not labels.is_file():
        what = "is a folder, not a label file" if labels.is_dir() else "no such label file"
        fail(f"{labels}: {what}{nearest_path(labels)}")


def require_slowfast(slowfast: Path | None) -> None:
    """Leave if a SlowFast checkpoint is named that is not there."""
    if slowfast is not None and not slowfast.is_file():
        fail(f"--slowfast {slowfast} is not a file{nearest_path(slowfast)}")


def read_prompt(prompt: Path | None) -> Prompt | None:
    """The prompt in a file, if one is given; leave if it cannot be read."""
    if prompt is None:
        return None
    if not prompt.is_file():
        fail(f"--prompt {prompt} is not a file{nearest_path(prompt)}")
    try:
        return Prompt.from_file(prompt)
    except (ValueError, OSError) as error:
        fail(error)


def require_size(option: str, size: int | None) -> None:
    """Leave if the side of keyframes is none that the vision tower takes."""
    if size is not None and (size < PIXELS_PER_TOKEN or size % PIXELS_PER_TOKEN):
        fail(f"{option} {size}: a frame size is a multiple of {PIXELS_PER_TOKEN} pixels")


def require_new(out: Path, *, overwrite: bool) -> None:
    """Leave if a folder cannot be written: it is none, or holds files that may not be replaced."""
    if out.exists() and not out.is_dir():
        fail(f"{out} is a file, not a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        fail(f"{out} is not empty; choose another folder, or replace what is in it (--overwrite)")
