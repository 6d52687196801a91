"""Scores that somebody has already."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from vqathinker.data.labels import decode, read
from vqathinker.data.matching import folders_agree
from vqathinker.media.names import stem


class TableAnnotator:
    """The scores of a label file, in any of the forms that are read (docs, "Data sets and label files").

    A medium is found by its path from `folder`, with or without its suffix, else by its name so, where the
    folders agree as far as both paths have any and one row of the file alone fits.

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
        names = map(os.path.normpath, labels.names)
        self.scores = {name: sign * value for name, value in zip(names, values, strict=True)}
        self._with_stem: dict[str, list[str]] = defaultdict(list)
        for name in self.scores:
            self._with_stem[stem(name)].append(name)

    def __call__(self, paths: Sequence[str]) -> list[float]:
        """The scores of N media, NaN for those that are not in the file."""
        return [self._score(path) for path in paths]

    def _score(self, path: str) -> float:
        own = os.path.relpath(path, self.folder)
        for name in (own, os.path.splitext(own)[0]):
            if name in self.scores:
                return self.scores[name]
        found = [name for name in self._with_stem.get(stem(own), ()) if folders_agree(name, own)]
        alike = [name for name in found if os.path.basename(name) == os.path.basename(own)] or found
        return self.scores[alike[0]] if len(alike) == 1 else math.nan
