"""Videos that cannot be read during a run: reported, counted, and a bounded share of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from vqathinker.model import VQAThinkerProcessor

logger = logging.getLogger(__name__)

REPORT_FILE = "unreadable_videos.jsonl"
BLANK_SIDE = 28  # pixels


def black_video(processor: VQAThinkerProcessor) -> Tensor:
    """Frames (T, 3, S, S) that stand for an unreadable video; nothing is learned from them."""
    setting = processor.training
    black = np.zeros((setting.num_frames, BLANK_SIDE, BLANK_SIDE, 3), np.uint8)
    return processor.pixels(black, setting.size)


class UnreadableVideos:
    """Decides when too many videos are unreadable. It counts what it is told of.

    Args:
        directory: where the report is written.
        num_videos: size of the training data.
        max_share: share of it that may be unreadable.
    """

    def __init__(self, directory: str | Path, num_videos: int, max_share: float) -> None:
        self.report, self.num_videos, self.max_share = Path(directory, REPORT_FILE), num_videos, max_share
        self.paths: set[str] = set()

    def add(
        self, errors: Sequence[tuple[str, str]], batch_size: int, step: int | None, *, write: bool
    ) -> None:
        """Take note of one batch.

        Args:
            errors: path and reason of every unreadable video.
            batch_size: number of videos in the batch.
            step: of the training, None where it is not known.
            write: whether this process writes the report.

        Raises:
            RuntimeError: if more than the allowed share is unreadable, or all of a batch of several videos.
        """
        self.paths.update(path for path, _ in errors)
        if errors and write:
            self.report.parent.mkdir(parents=True, exist_ok=True)
            with self.report.open("a", encoding="utf-8") as file:
                for path, reason in errors:
                    logger.warning("skipped %s: %s", path, reason)
                    file.write(json.dumps({"step": step, "path": path, "reason": reason}) + "\n")
        too_many = len(self.paths) > self.max_share * self.num_videos
        if errors and (too_many or 1 < batch_size == len(errors)):
            found = (
                f"{len(self.paths)} of {self.num_videos} training videos cannot be read, more than "
                f"max_unreadable={self.max_share}"
                if too_many
                else f"none of the {batch_size} videos of a batch can be read"
            )
            path, reason = errors[-1]
            raise RuntimeError(
                f"{found}. The last one is {path}: {reason}; all are in {self.report}. Check the data with "
                "`vqathinker prepare`"
            )
