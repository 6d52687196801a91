"""What is asked: a score of every video or of each of its windows, an answer, or questions about media."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from vqathinker.scoring.mode import Mode
from vqathinker.scoring.result import Reply, Score

if TYPE_CHECKING:
    from vqathinker.media.container import VideoError
    from vqathinker.scoring.scorer import Scorer


@dataclass(frozen=True)
class Asked:
    """Files that are shown together, and the questions about them.

    Attributes:
        paths: of one file, or of two that are compared.
        questions: one or more; None for the checkpoint's own.
    """

    paths: tuple[str, ...]
    questions: tuple[str | None, ...]


@dataclass(frozen=True)
class Task:
    """What is asked of every video.

    Attributes:
        mode: how a score is read.
        question: asked instead of for a score.
        window: length of the windows in seconds, each of which gets a score of its own.
        stride: from one window's start to the next; their length if omitted.
    """

    mode: Mode = field(default_factory=Mode)
    question: str | None = None
    window: float | None = None
    stride: float | None = None

    def run(self, scorer: Scorer, sources: Sequence[str | VideoError]) -> Iterator[Iterable[Score | Reply]]:
        """Yield the results of each source, in order: one, or one for each window as it comes."""
        if self.question is not None:
            yield from ([reply] for reply in scorer.ask(sources, self.question, expand=False))
        elif self.window is None:
            yield from ([score] for score in scorer.stream(sources, expand=False, **asdict(self.mode)))
        else:
            for source in sources:
                yield self._windows(scorer, source, self.window)

    def _windows(self, scorer: Scorer, source: str | VideoError, window: float) -> Iterator[Score]:
        mode = asdict(self.mode)
        if isinstance(source, str):
            return scorer.timeline(source, window, self.stride, **mode)
        return scorer.stream([source], expand=False, **mode)
