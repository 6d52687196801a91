"""What a builder is: from a sample about whose medium something is known to samples that teach it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vqathinker.choices import lettered
from vqathinker.media.container import VideoError
from vqathinker.samples import IMAGE, Sample

# of the sample it is made from, what is still of use beside the text
KEPT = ("distortion", "level", "severity", "place", "time", "split", "is_test")
TOO_SLOW = "reading it took longer"  # as a guarded process says it
TEMPLATE = "template"
MODEL = "model"


@dataclass(frozen=True)
class Rejection:
    """Something that was not made, or not kept.

    Attributes:
        reason: in a few words, the same for all of its kind: rejections are counted by it.
        detail: what there is to say about this one.
        passes: whether another try may go better, as where a server did not answer.
    """

    reason: str
    detail: str = ""
    passes: bool = False


def unreadable(error: VideoError) -> Rejection:
    """The rejection of a file that cannot be read; one that took too long may be read another time."""
    return Rejection("unreadable", error.reason, passes=error.reason.startswith(TOO_SLOW))


@dataclass(frozen=True)
class Built:
    """What became of a sample.

    Attributes:
        samples: made from it.
        rejections: of what was not made from it.
    """

    samples: list[Sample] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    @classmethod
    def rejected(cls, reason: str, detail: str = "", *, passes: bool = False) -> Built:
        """Nothing, for one reason."""
        return cls([], [Rejection(reason, detail, passes)])


class Builder(ABC):
    """Makes samples from one; the same ones whenever it is given the same generator."""

    @abstractmethod
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Built:
        """Build samples.

        Args:
            sample: a medium with what is known of it.
            rng: draws wording and the order of options; of this sample alone.

        Raises:
            ChatError: if a language model does not answer.
        """


def derive(
    sample: Sample,
    name: str,
    *,
    task: str,
    question: str | None,
    answer: str,
    mode: str = TEMPLATE,
    columns: dict[str, Any] | None = None,
    **changes: Any,
) -> Sample:
    """A sample about the medium of another one.

    Args:
        sample: whose medium it is.
        name: what tells it from others about this medium.
        task: its task.
        question: as of `Sample`.
        answer: likewise.
        mode: whether a template or a language model worded it.
        columns: more of them.
        **changes: other attributes.
    """
    kept = {key: sample.columns[key] for key in KEPT if key in sample.columns}
    return Sample(
        id=f"{sample.id}#{name}",
        dataset=sample.dataset,
        media=sample.media,
        task=task,
        question=question,
        answer=answer,
        columns={**kept, "source": sample.columns.get("source", sample.id), "mode": mode, **(columns or {})},
        **changes,
    )


def closed(
    sample: Sample,
    name: str,
    stem: str,
    options: Sequence[str],
    correct: int,
    rng: np.random.Generator,
    *,
    mode: str = TEMPLATE,
) -> Sample:
    """A question with options, whose order is drawn, so that no letter is right more often than another.

    Args:
        sample: as of `derive`.
        name: likewise.
        stem: the question without its options.
        options: different texts.
        correct: which of them is right.
        rng: draws the order.
        mode: as of `derive`.
    """
    order = rng.permutation(len(options)).tolist()
    shown = [options[place] for place in order]
    right = order.index(correct)
    lines = [lettered(place, option) for place, option in enumerate(shown)]
    return derive(
        sample,
        name,
        task="question",
        question="\n".join([stem, *lines]),
        answer=lettered(right, shown[right]),
        mode=mode,
        options=tuple(shown),
        correct=right,
    )


def kind_word(sample: Sample) -> str:
    """What a sample's medium is called in a sentence."""
    return "image" if sample.media[0].kind == IMAGE else "video"


def draw(phrases: Sequence[str], rng: np.random.Generator, **values: str) -> str:
    """One of several phrases, filled in."""
    return phrases[int(rng.integers(len(phrases)))].format(**values)
