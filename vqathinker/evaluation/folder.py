"""The folder that keeps results: what it may hold before a run, and who writes there.

Imports no torch: a wrong folder is told before a model is loaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqathinker.journal import PATTERN, Journal, Kept, remove_all

PREDICTIONS_FILE = "predictions.csv"
SUMMARY_FILE = "summary.json"
PLOT_FILE = "scatter.png"
TABLE_FILES = ("table.md", "table.tex")
RESULT_FILES = (PREDICTIONS_FILE, SUMMARY_FILE, *TABLE_FILES, PLOT_FILE)


@dataclass(frozen=True)
class Keeping:
    """Where results are kept, each as it comes, and which of them are this process's.

    Attributes:
        folder: of the journals; None keeps nothing.
        files: what is written once every video has its result, relative to the folder or absolute.
        folders: in it, of what else is kept meanwhile.
        overwrite: whether to start anew, whatever the folder holds.
        shard: index and number of processes that share the videos and the folder.
        origin: what only the caller knows, e.g. checkpoint and label file; stored with the settings.
    """

    folder: Path | None = None
    files: Sequence[str] = RESULT_FILES
    folders: Sequence[str] = ()
    overwrite: bool = False
    shard: tuple[int, int] = (0, 1)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Check that results may be kept, before a model is loaded.

        Raises:
            ValueError: if the folder is none, if it holds results without a journal, or if several shards
                would each remove what the others have written.
        """
        if self.folder is None:
            return
        if self.overwrite and self.shard[1] > 1:
            raise ValueError(
                f"shards cannot overwrite {self.folder}: leave --overwrite out and remove it first"
            )
        has_journal = any(self.folder.glob(PATTERN))
        require_free(self.folder, files=self.files, overwrite=self.overwrite or has_journal)

    def open(self, settings: Mapping[str, Any], kind: type[Kept] = Kept) -> Kept:
        """Take the folder over for this process; what it holds goes if it may be overwritten.

        Args:
            settings: what shapes the results.
            kind: of results.

        Raises:
            ValueError: as `check` and `Journal`.
            OSError: if it cannot be written.
        """
        if self.folder is None:
            return kind(None)
        self.check()
        if self.overwrite:
            remove_all(self.folder)
            for name in self.files:
                (self.folder / name).unlink(missing_ok=True)
            for name in self.folders:
                if (self.folder / name).is_dir():
                    shutil.rmtree(self.folder / name)
        return kind(Journal(self.folder, settings, self.shard))


def require_free(
    directory: str | os.PathLike[str],
    *,
    files: Sequence[str] = RESULT_FILES,
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
