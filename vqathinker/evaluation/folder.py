"""The folder that keeps results: what it may hold before a run, and which videos are left to score.

Imports no torch: a wrong folder is told before a model is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqathinker.journal import PATTERN, Journal, remove

PREDICTIONS_FILE, SUMMARY_FILE, PLOT_FILE = "predictions.csv", "summary.json", "scatter.png"
TABLE_FILES = ("table.md", "table.tex")
RESULT_FILES = (PREDICTIONS_FILE, SUMMARY_FILE, *TABLE_FILES, PLOT_FILE)


def check_folder(
    directory: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    shard: tuple[int, int] = (0, 1),
    files: Sequence[str] = (PREDICTIONS_FILE, SUMMARY_FILE),
) -> None:
    """Check that results may be kept here, before a model is loaded.

    Args:
        directory: of the journals.
        overwrite: whether what it holds may go.
        shard: index and number of processes that share it.
        files: the results, relative to the directory.

    Raises:
        ValueError: if it is no folder, if it holds results without a journal, or if several shards would each
            remove what the others have written.
    """
    if overwrite and shard[1] > 1:
        raise ValueError(f"shards cannot overwrite {directory}: leave --overwrite out and remove it first")
    has_journal = any(Path(directory).glob(PATTERN))
    require_free(directory, files=files, overwrite=overwrite or has_journal)


def open_journal(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    overwrite: bool,
    shard: tuple[int, int],
    files: Sequence[str] = RESULT_FILES,
) -> Journal:
    """Take a folder over for one shard; what it holds goes if it may be overwritten.

    Raises:
        ValueError: as `check_folder` and `Journal`.
        OSError: if it cannot be written.
    """
    check_folder(folder, overwrite=overwrite, shard=shard, files=files)
    if overwrite:
        for path in folder.glob(PATTERN):
            remove(path)
        for name in files:
            (folder / name).unlink(missing_ok=True)
    return Journal(folder, settings, shard)


def left_to_score(
    num_rows: int, batch_size: int, kept: set[int], shard: tuple[int, int] = (0, 1)
) -> list[int]:
    """Return the rows of this shard's batches in which a result is missing.

    >>> left_to_score(7, 2, {0, 1, 2})
    [2, 3, 4, 5, 6]
    >>> left_to_score(7, 2, {0, 1, 2}, shard=(1, 2))
    [2, 3, 6]
    """
    index, num_shards = shard
    batches = [range(start, min(start + batch_size, num_rows)) for start in range(0, num_rows, batch_size)]
    return [row for batch in batches[index::num_shards] if not kept.issuperset(batch) for row in batch]


def require_free(
    directory: str | os.PathLike[str],
    *,
    files: Sequence[str] = (PREDICTIONS_FILE, SUMMARY_FILE),
    overwrite: bool = False,
) -> None:
    """Check that results may be written here, before hours of scoring.

    Raises:
        ValueError: if the directory is a file, or holds a result that may not be overwritten.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is not a directory (--out)")
    for name in files:
        if (directory / name).exists() and not overwrite:
            raise ValueError(
                f"{directory / name} exists; choose another folder (--out) or replace it (--overwrite)"
            )


def write_whole(path: Path, text: str) -> None:
    """Write a text file that is there in one piece or not at all, whatever stops the process."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8", newline="", errors="backslashreplace")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
