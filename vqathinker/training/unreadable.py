"""Videos that cannot be read during a run: reported, counted, and a bounded share of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from vqathinker.model import VQAThinkerProcessor
from vqathinker.types import RunStopped

logger = logging.getLogger(__name__)

REPORT_FILE = "unreadable_videos.jsonl"
BLANK_SIDE = 28  # pixels


def black_video(processor: VQAThinkerProcessor) -> Tensor:
    """Frames (T, 3, S, S) that stand for an unreadable video; nothing is learned from them."""
    setting = processor.training
    black = np.zeros((setting.num_frames, BLANK_SIDE, BLANK_SIDE, 3), np.uint8)
    return processor.pixels(black, setting.size)


class UnreadableVideos:
    """Decides when too many videos are unreadable. It counts what it is told of, and what its report holds.

    Args:
        directory: where the report is written.
        num_videos: size of the data.
        max_share: share of it that may be unreadable.
        is_shared: whether processes that are not told of one another's videos write the same report.
    """

    def __init__(
        self, directory: str | Path, num_videos: int, max_share: float, *, is_shared: bool = False
    ) -> None:
        self.report = Path(directory, REPORT_FILE)
        self.num_videos = num_videos
        self.max_share = max_share
        self.is_shared = is_shared
        self.paths: set[str] = set()

    def begin(self, *, resumes: bool, write: bool) -> None:
        """Start to count: a run that goes on counts on from its report, a new run starts a new one.

        Args:
            resumes: whether the run goes on.
            write: whether this process may remove the report of another run.
        """
        self.paths = self._reported() if resumes else set()
        if write and not resumes:
            self.report.unlink(missing_ok=True)

    def add(
        self, errors: Sequence[tuple[str, str]], batch_size: int | None, step: int | None, *, write: bool
    ) -> None:
        """Take note of one batch.

        Args:
            errors: path and reason of every unreadable video.
            batch_size: number of videos in the batch; None where one without any is no reason to stop.
            step: of the training, None where it is not known.
            write: whether this process writes the report.

        Raises:
            RunStopped: if more than the allowed share is unreadable, or all of a batch of several videos.
        """
        self.paths.update(path for path, _ in errors)
        if errors and write:
            self.report.parent.mkdir(parents=True, exist_ok=True)
            with self.report.open("a", encoding="utf-8") as file:
                for path, reason in errors:
                    logger.warning("skipped %s: %s", path, reason)
                    file.write(json.dumps({"step": step, "path": path, "reason": reason}) + "\n")
        if errors and self.is_shared:
            self.paths |= self._reported()
        found = ""
        if len(self.paths) > self.max_share * self.num_videos:
            share = f"max_unreadable={self.max_share}"
            found = f"{len(self.paths)} of {self.num_videos} videos cannot be read, more than {share}"
        elif batch_size is not None and 1 < batch_size == len(errors):
            found = f"none of the {batch_size} videos of a batch can be read"
        if errors and found:
            path, reason = errors[-1]
            raise RunStopped(
                f"{found}. The last one is {path}: {reason}; all are in {self.report}. Check the data with "
                "`vqathinker prepare`"
            )

    def _reported(self) -> set[str]:
        """The videos in the report."""
        if not self.report.exists():
            return set()
        found = set()
        for line in self.report.read_text(encoding="utf-8").rstrip("\n").split("\n"):
            try:
                found.add(str(json.loads(line)["path"]))
            except json.JSONDecodeError:  # cut when its process was killed
                logger.warning("%s: left out a line that is cut: %r", self.report, line)
        return found
