"""What scoring hands back: a number, and everything that shaped it beside the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vqathinker import answers
from vqathinker.journal import without_nan


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the model saw of one video, or of one window of it.

    Attributes:
        path: the file; `<frames>` for frames in memory, empty for what was read from responses alone.
        start: first second; 0 unless it is a window.
        end: last second; NaN where the file does not tell its frame rate.
        indices: (T,) positions of the keyframes in the file, from 0.
        num_frames: frames in the file.
        num_lost: those that cannot be decoded, as far as it was read; the frame before each is used.
        fps: its average frame rate, NaN where it does not say.
        size: side of the model's square frames in pixels.
        seconds: time spent on the batch of this video, divided by the batch's videos.
        error: why the file cannot be used, None otherwise.
    """

    path: str = ""
    start: float = 0.0
    end: float = math.nan
    indices: tuple[int, ...] = ()
    num_frames: int = 0
    num_lost: int = 0
    fps: float = math.nan
    size: int = 0
    seconds: float = math.nan
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All attributes as JSON knows them: None for NaN."""
        found: dict[str, Any] = without_nan(asdict(self))
        return found


@dataclass(frozen=True, kw_only=True)
class Score(Seen):
    """The score of a video.

    Attributes:
        score: from 1 to 5; NaN where no response holds a score or the file cannot be used.
        raw: the score before it was set to the nearer end of the scale; of samples, each of which is set
            there, their combination.
        mode: greedy, samples, expected or levels.
        spread: standard deviation of the sampled scores (n − 1), NaN below two.
        samples: what each response says, on the scale or not, NaN where it does not parse.
        texts: the responses.
        details: what else the mode computes: the four ways to combine samples, the greedy score beside the
            expected one, the probability of each level.
    """

    score: float = math.nan
    raw: float = math.nan
    mode: str = "greedy"
    spread: float = math.nan
    samples: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def clipped(self) -> bool:
        """Whether a number lies outside the scale: that of the response, or of one of the samples."""
        numbers = self.samples if self.mode == "samples" else (self.raw,)
        return any(answers.clip(number) != number for number in numbers if not math.isnan(number))

    @property
    def reasoning(self) -> str:
        """The first parsed response's think block, empty without one."""
        parsed = (answers.parse(text, think=False) for text in self.texts)
        return next((answer.reasoning for answer in parsed if answer is not None), "")

    def to_dict(self) -> dict[str, Any]:
        """All attributes as JSON knows them, the derived ones too."""
        first = {"path": self.path, "score": without_nan(self.score), "clipped": self.clipped}
        return first | {"reasoning": self.reasoning} | super().to_dict()


@dataclass(frozen=True, kw_only=True)
class Reply(Seen):
    """What the model says to a question about a video; never read as a score.

    Attributes:
        question: what was asked.
        text: the answer.
    """

    question: str
    text: str = ""
