"""Scores that somebody has already."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from vqathinker.data.labels import decode, read
from vqathinker.media.names import stem


class TableAnnotator:
    """The scores of a label file, in any of the forms that are read (docs, "Data sets and label files").

    A medium is found by its path from `folder`, else by its name, else by its name without the suffix.

    Args:
        file: the label file.
        folder: that the names in it start from; the working folder if omitted.
        score_column: the column of the scores, by name or number, where it cannot be told.
        less_is_better: whether lower scores are better.

    Raises:
        ValueError: if the file cannot be read as labels.
        OSError: if there is no such file.
    """

    def __init__(
        self,
        file: str,
        *,
        folder: str = ".",
        score_column: str | None = None,
        less_is_better: bool = False,
    ) -> None:
        try:
            labels = read(decode(Path(file).read_bytes()), mos_column=score_column)
            values = [float(value) if value else math.nan for value in labels.mos]
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        self.folder = folder
        sign = -1 if less_is_better else 1
        self.scores: dict[str, float] = {}
        ambiguous: set[str] = set()
        for name, value in zip(labels.names, values, strict=True):
            self.scores[os.path.normpath(name)] = sign * value
        # shorter names, where they mean one medium alone
        for name, value in list(self.scores.items()):
            for short in {os.path.basename(name), stem(name)} - {name}:
                if short in self.scores:
                    ambiguous.add(short)
                self.scores.setdefault(short, value)
        for short in ambiguous - {os.path.normpath(name) for name in labels.names}:
            del self.scores[short]

    def __call__(self, paths: Sequence[str]) -> list[float]:
        """The scores of N media, NaN for those that are not in the file."""
        return [self._score(path) for path in paths]

    def _score(self, path: str) -> float:
        names = (os.path.relpath(path, self.folder), os.path.basename(path), stem(path))
        return next((self.scores[name] for name in names if name in self.scores), math.nan)
