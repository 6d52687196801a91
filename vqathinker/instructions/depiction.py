"""Statements about a medium (VITAL, arXiv 2511.17962, sections 3.1 and 6.2)."""

from __future__ import annotations

import re

import numpy as np

from vqathinker.chat import ChatClient, Question
from vqathinker.instructions.base import (
    MODEL,
    Builder,
    Built,
    Rejection,
    derive,
    draw,
    kind_word,
    unreadable,
)
from vqathinker.instructions.facts import facts_of
from vqathinker.instructions.showing import Show
from vqathinker.instructions.wording import DESCRIBE_PROMPTS, SPLIT_PROMPT
from vqathinker.media.container import VideoError
from vqathinker.samples import Sample

TASK = "description"
# statements that conclude on the whole, which the editor was asked to leave out
CONCLUDES = re.compile(
    r"\b(overall|in general|in conclusion|thus|therefore|in summary)\b"
    r"|\bquality of (this|the) (video|image) is\b",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
LEAST_WORDS = 3


class Depiction(Builder):
    """Single statements about a medium's quality, each a sample that asks nothing.

    With a describer a model that sees the medium describes it, and an editor splits the description and
    leaves out what is vague. Without, what is known of the medium (`facts.facts_of`) is stated.

    Args:
        model: describes; it is shown frames of the medium.
        editor: splits; the describer itself if omitted.
        show: the pictures of media; needed with a model.

    Raises:
        ValueError: if there is a model that nothing is shown to.
    """

    def __init__(
        self, *, model: ChatClient | None = None, editor: ChatClient | None = None, show: Show | None = None
    ) -> None:
        if model is not None and show is None:
            raise ValueError("a model that describes media needs to be shown them")
        self.model = model
        self.editor = editor or model
        self.show = show

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Built:
        """A sample for each statement."""
        kind = kind_word(sample)
        if self.model is None:
            try:
                statements = [fact.statement(kind) for fact in facts_of(sample)]
            except ValueError as error:
                return Built.rejected("its facts cannot be read", str(error))
            if not statements:
                return Built.rejected("nothing is known of its quality")
            return Built([_stated(sample, number, text) for number, text in enumerate(statements)])
        try:
            described = self._describe(sample, rng)
        except VideoError as error:
            return Built([], [unreadable(error)])
        built = Built()
        for number, statement in enumerate(split(described)):
            if CONCLUDES.search(statement):
                built.rejections.append(Rejection("the statement concludes on the whole", statement))
            elif len(statement.split()) < LEAST_WORDS:
                built.rejections.append(Rejection("the statement says nothing", statement))
            else:
                built.samples.append(_stated(sample, number, statement, MODEL))
        if not built.samples:
            built.rejections.append(Rejection("no statement was left"))
        return built

    def _describe(self, sample: Sample, rng: np.random.Generator) -> str:
        """A description, edited."""
        assert self.model is not None
        assert self.editor is not None
        assert self.show is not None
        kind = kind_word(sample)
        prompt = draw(DESCRIBE_PROMPTS, rng, kind=kind)
        description = self.model.ask(Question(prompt, self.show(sample.media)))
        return self.editor.ask(Question(SPLIT_PROMPT.format(kind=kind, text=description)))


def split(text: str) -> list[str]:
    r"""The sentences of a text, without bullets and numbers in front; none comes twice.

    >>> split("1. Edges are soft.\n- The light is even. The light is even.")
    ['Edges are soft.', 'The light is even.']
    """
    lines = [re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+", "", line) for line in text.splitlines()]
    sentences = [part.strip() for line in lines for part in SENTENCE_END.split(line)]
    return list(dict.fromkeys(sentence for sentence in sentences if sentence))


def _stated(sample: Sample, number: int, statement: str, mode: str = "template") -> Sample:
    return derive(sample, f"statement-{number}", task=TASK, question="", answer=statement, mode=mode)
