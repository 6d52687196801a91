"""Chains from single dimensions to the whole (Score2Instruct, arXiv 2506.21011)."""

from __future__ import annotations

import re
from statistics import fmean

import numpy as np

from vqathinker.chat import ChatClient, Question
from vqathinker.instructions.base import (
    MODEL,
    TEMPLATE,
    Builder,
    Built,
    Rejection,
    derive,
    draw,
    kind_word,
)
from vqathinker.instructions.dimensions import AESTHETIC, DIMENSIONS, TECHNICAL, rate
from vqathinker.instructions.facts import dimensions_of
from vqathinker.instructions.scoring import level_word
from vqathinker.instructions.wording import (
    CHAIN_CAPTION,
    CHAIN_END,
    CHAIN_END_ALONE,
    CHAIN_GROUP,
    CHAIN_QUESTIONS,
    CHAIN_STEP,
    DIMENSION_ANSWERS,
    DIMENSION_QUESTIONS,
    REWORD_PROMPT,
)
from vqathinker.samples import Sample
from vqathinker.scale import WORDS

GROUPS = (TECHNICAL, AESTHETIC)
MIDDLE = WORDS[len(WORDS) // 2]
RATING = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
REWORDINGS = 2  # tries before the template stays


class Chain(Builder):
    """A chain from the scores of dimensions over two groups to the whole, and questions about dimensions.

    Needs the column `dimensions`, a share from 0 to 1 for some of the fourteen, and a score. A column
    `caption` says what is shown. With a model the chain is reworded; its ratings have to come out unchanged,
    else the template stays and a rejection counts it.

    Args:
        model: rewords.
        num_questions: about single dimensions (the paper: 216,000 to 104,000 chains).
    """

    def __init__(self, *, model: ChatClient | None = None, num_questions: int = 2) -> None:
        self.model = model
        self.num_questions = num_questions

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Built:
        """One chain and some questions."""
        try:
            shares = dimensions_of(sample.columns)
        except ValueError as error:
            return Built.rejected("its dimensions cannot be read", str(error))
        if not shares:
            return Built.rejected("no dimensions are known")
        if sample.target is None:
            return Built.rejected("no score is known")
        rejections = []
        text = chain_text(sample, shares)
        mode = TEMPLATE
        if self.model is not None:
            reworded = reword(self.model, text)
            if isinstance(reworded, Rejection):
                rejections.append(reworded)
            else:
                text = reworded
                mode = MODEL
        question = draw(CHAIN_QUESTIONS, rng, kind=kind_word(sample))
        chain = derive(
            sample,
            "chain",
            task="description",
            question=question,
            answer=text,
            mode=mode,
            target=sample.target,
            spread=sample.spread,
            levels=sample.levels,
        )
        chosen = rng.permutation(sorted(shares))[: self.num_questions].tolist()
        return Built([chain, *(_about(sample, name, shares[name], rng) for name in chosen)], rejections)


class DescribeScores(Chain):
    """As `Chain`, for media without labels: dimensions are the ranks of measures, the score an opinion.

    The stage `level` gives both (`dimensions: measures`).
    """


def chain_text(sample: Sample, shares: dict[str, float]) -> str:
    """Every dimension with what follows from it, a rating for each group, and the whole."""
    kind = kind_word(sample)
    lines = []
    if caption := sample.columns.get("caption"):
        lines.append(CHAIN_CAPTION.format(kind=kind, caption=str(caption).rstrip(".") + "."))
    groups = 0
    for group in GROUPS:
        members = [name for name in DIMENSIONS if name in shares and DIMENSIONS[name].group == group]
        lines += [_step(name, shares[name]) for name in members]
        if members:
            groups += 1
            word = rate(fmean(shares[name] for name in members))
            lines.append(CHAIN_GROUP.format(group=group, word=word))
    end = CHAIN_END if groups == len(GROUPS) else CHAIN_END_ALONE
    lines.append(end.format(kind=kind, word=level_word(sample)))
    return " ".join(lines)


def ratings(text: str) -> list[str]:
    """The rating words of a text, in their order.

    >>> ratings("Sharpness is Good; so the whole is fair.")
    ['good', 'fair']
    """
    return [word.lower() for word in RATING.findall(text)]


def reword(model: ChatClient, text: str) -> str | Rejection:
    """A text in other words with the same ratings, or why there is none.

    Raises:
        ChatError: if the model does not answer.
    """
    words = ratings(text)
    prompt = REWORD_PROMPT.format(words=", ".join(words), text=text)
    for number in range(REWORDINGS):
        reworded = model.ask(Question(prompt, round=number)).strip()
        if reworded and ratings(reworded) == words:
            return reworded
    return Rejection("rewording changed a rating: the template stays", reworded)


def _step(name: str, share: float) -> str:
    """A dimension, its rating, and what follows."""
    values = _values(name, share)
    definition = values.pop("definition")
    return CHAIN_STEP.format(definition=definition[0].upper() + definition[1:], **values)


def _about(sample: Sample, name: str, share: float, rng: np.random.Generator) -> Sample:
    """A question about one dimension."""
    values = _values(name, share)
    return derive(
        sample,
        f"dimension-{name}",
        task="question",
        question=draw(DIMENSION_QUESTIONS, rng, definition=values["definition"], kind=kind_word(sample)),
        answer=draw(DIMENSION_ANSWERS, rng, **values),
        columns={"dimension": name},
    )


def _values(name: str, share: float) -> dict[str, str]:
    """What templates say of a dimension; nothing follows from a rating in the middle."""
    dimension = DIMENSIONS[name]
    word = rate(share)
    effect = ""
    if word != MIDDLE:
        effect = f", {dimension.good if share > 0.5 else dimension.bad}"
    is_are = "are" if dimension.is_plural else "is"
    return {"definition": dimension.definition, "is_are": is_are, "word": word, "effect": effect}
