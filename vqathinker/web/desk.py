"""What the page asks of a scorer, one question after the other, within limits."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vqathinker import answers
from vqathinker.media.container import VideoError, probe
from vqathinker.media.names import is_image_name
from vqathinker.metrics import Estimate
from vqathinker.scoring import Score, Scorer
from vqathinker.scoring.comparison import Votes, vote_by_scores

MEGABYTE = 2**20
WIDE = 1.96  # standard errors on either side of a mean, for 95 %


class Refused(ValueError):
    """A request that the page does not take; the message says why and what would do."""


@dataclass(frozen=True)
class Limits:
    """What may be asked of the page.

    Attributes:
        megabytes: of a file.
        seconds: of a video.
        samples: responses to one question.
        windows: of a timeline.
        files: of a table.
        letters: of a question.
    """

    megabytes: int = 500
    seconds: float = 600.0
    samples: int = 16
    windows: int = 120
    files: int = 200
    letters: int = 2000


@dataclass(frozen=True)
class Opinion:
    """What the model thinks of a medium.

    Attributes:
        score: with a 95 % interval of its mean over the samples, NaN for one.
        reasoning: of the first response that parses.
        timeline: middle of each window in seconds, and its score.
    """

    score: Estimate
    reasoning: str
    timeline: tuple[tuple[float, float], ...] = ()


class Desk:
    """Answers one request at a time, whoever asks.

    Args:
        scorer: of the checkpoint.
        limits: of a request.
    """

    def __init__(self, scorer: Scorer, limits: Limits | None = None) -> None:
        self.scorer = scorer
        self.limits = limits or Limits()
        self._turn = threading.Lock()

    def score(self, path: str, samples: int = 1, window: float = 0.0) -> Opinion:
        """Score a video or a picture.

        Args:
            path: of the file.
            samples: responses; greedy if it is one.
            window: seconds of each part of the timeline; none at 0.

        Raises:
            Refused: if the file cannot be read or something is over a limit.
        """
        seconds = self._checked(path)
        self._within(samples, self.limits.samples, "samples")
        has_timeline = window > 0 and not is_image_name(path)
        if has_timeline:
            self._within(math.ceil(seconds / window), self.limits.windows, "windows")
        with self._turn:
            (score,) = self.scorer.stream([path], expand=False, samples=samples)
            parts = list(self.scorer.timeline(path, window)) if has_timeline else []
        if score.error is not None:
            raise Refused(f"{Path(path).name}: {score.error}")
        timeline = tuple(((part.start + part.end) / 2, part.score) for part in parts if part.error is None)
        return Opinion(interval_of(score), score.reasoning or _plain(score), timeline)

    def ask(self, path: str, question: str) -> str:
        """The answer to a question about a medium.

        Raises:
            Refused: if there is no question, the file cannot be read or is over a limit.
        """
        self._checked(path)
        if not question or not question.strip():
            raise Refused("ask something about the video")
        self._within(len(question), self.limits.letters, "letters")
        with self._turn:
            (reply,) = self.scorer.ask([path], question, expand=False)
        if reply.error is not None:
            raise Refused(f"{Path(path).name}: {reply.error}")
        return answers.without_tags(reply.text) or "(no words)"

    def compare(self, first: str, second: str, samples: int) -> Votes:
        """The votes on two media.

        Raises:
            Refused: if a file cannot be read or something is over a limit.
        """
        for path in (first, second):
            self._checked(path)
        self._within(samples, self.limits.samples, "samples")
        with self._turn:
            try:
                votes = vote_by_scores(self.scorer, [first, second], samples)
            except VideoError as error:  # two are needed
                raise Refused(f"{Path(error.path).name}: {error.reason}") from error
        if math.isnan(votes.preference().value):
            raise Refused("no response holds a score: the two cannot be compared")
        return votes

    def table(self, paths: Sequence[str]) -> list[Score]:
        """A score for each file; one that cannot be read, or is over a limit, has its error.

        Raises:
            Refused: if there are too many.
        """
        self._within(len(paths), self.limits.files, "files")
        found: dict[str, Score] = {}
        usable = []
        for path in paths:
            try:
                self._checked(path)
                usable.append(path)
            except Refused as error:
                found[path] = Score(path=path, error=str(error))
        with self._turn:
            found |= {score.path: score for score in self.scorer.stream(usable, expand=False)}
        return [found[path] for path in paths]

    def _checked(self, path: str) -> float:
        """The length of a video in seconds, 0 for a picture, if it is within the limits.

        Raises:
            Refused: if it is not, or cannot be opened.
        """
        name = Path(path).name
        megabytes = os.path.getsize(path) / MEGABYTE
        if megabytes > self.limits.megabytes:
            raise Refused(f"{name}: {megabytes:.0f} MB, at most {self.limits.megabytes} are taken")
        if is_image_name(path):
            return 0.0
        found = self.scorer.reader.read(probe, path)  # in a process that a bad file may end
        if isinstance(found, VideoError):
            raise Refused(f"{name}: {found.reason}")
        if not found.end <= self.limits.seconds:
            raise Refused(f"{name}: {found.end:.0f} s, at most {self.limits.seconds:.0f} are taken; cut it")
        return float(found.end)

    def _within(self, number: int, limit: int, what: str) -> None:
        if number > limit:
            raise Refused(f"{number} {what}: at most {limit} are taken")


def interval_of(score: Score) -> Estimate:
    """A score with the 95 % interval of the mean of its samples.

    >>> found = interval_of(Score(score=3.0, samples=(2.0, 3.0, 4.0), spread=1.0))
    >>> round(found.low, 2), round(found.high, 2)
    (1.87, 4.13)
    """
    known = [sample for sample in score.samples if not math.isnan(sample)]
    if len(known) < 2:
        return Estimate(score.score, math.nan, math.nan)
    margin = WIDE * score.spread / math.sqrt(len(known))
    return Estimate(score.score, answers.clip(score.score - margin), answers.clip(score.score + margin))


def _plain(score: Score) -> str:
    """A response that does not parse, as it is."""
    return answers.without_tags(score.texts[0]) if score.texts else ""
