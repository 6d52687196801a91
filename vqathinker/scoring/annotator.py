"""A checkpoint of ours as an annotator (`opinions.annotators`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from vqathinker.checkpoints.folders import checkpoint_folder
from vqathinker.scoring.mode import Mode
from vqathinker.scoring.scorer import Scorer


class CheckpointAnnotator:
    """The scores of a checkpoint, on 1 to 5.

    Args:
        folder: of the checkpoint, or its name on the hub.
        mode: as `Mode` takes it, such as `{"levels": True}`; greedy if omitted.
        **options: as `Scorer.from_pretrained` takes them.

    Raises:
        ValueError: if the checkpoint is none, or an option cannot be used.
    """

    def __init__(self, folder: str, *, mode: dict[str, Any] | None = None, **options: Any) -> None:
        self.mode = mode or {}
        Mode(**self.mode)
        self.folder = checkpoint_folder(folder)
        self.options = options

    @cached_property
    def scorer(self) -> Scorer:
        """The model, loaded when it is first asked: a recipe is checked without."""
        return Scorer.from_pretrained(self.folder, **self.options)

    def __call__(self, paths: Sequence[str]) -> list[float]:
        """The scores of N files, NaN for those without one."""
        found = self.scorer.stream(list(paths), expand=False, **self.mode)
        return [math.nan if score.error is not None else score.score for score in found]
