"""Levels to be said.

Sources: VQA² (arXiv 2411.03795), section 3.3; VITAL (arXiv 2511.17962), sections 3.1 and 6.
"""

from __future__ import annotations

import numpy as np

from vqathinker.instructions.base import Builder, Built, derive, draw, kind_word
from vqathinker.instructions.stalls import Stalls
from vqathinker.instructions.wording import SCORING_ANSWER, SCORING_QUESTIONS
from vqathinker.opinions import level_index
from vqathinker.samples import Sample
from vqathinker.scale import SCALE, VOCABULARIES, WORDS

STYLES = ("vital", "vqa2", "streaming")


class Scoring(Builder):
    """The level of a medium's score in a sentence, with the score, its spread and the levels' distribution.

    Args:
        style: "vital" asks nothing; "vqa2" asks; "streaming" asks and tells the stalls, in two samples, a
            form each (see `stalls.Stalls.from_columns` for the columns).
        words: of the levels: "vqa2" (high to low) or "ours" (excellent to bad).

    Raises:
        ValueError: for another style or other words.
    """

    def __init__(self, *, style: str = "vital", words: str = "vqa2") -> None:
        if style not in STYLES:
            raise ValueError(f"style {style!r}: choose one of {', '.join(STYLES)}")
        if words not in VOCABULARIES:
            raise ValueError(f"words {words!r}: choose one of {', '.join(VOCABULARIES)}")
        self.style = style
        self.words = VOCABULARIES[words]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Built:
        """One sample, two of a streamed video, none where no score is known."""
        if sample.target is None:
            return Built.rejected("no score is known")
        told = {"": ""}
        if self.style == "streaming":
            try:
                stalls = Stalls.from_columns(sample.columns)
            except ValueError as error:
                return Built.rejected("its stalls are not known", str(error))
            told = {"-sequence": stalls.sequence(), "-summary": stalls.summary()}
        made = []
        for form, stalling in told.items():
            asked = draw(SCORING_QUESTIONS, rng, kind=kind_word(sample)) if self.style != "vital" else ""
            made.append(
                derive(
                    sample,
                    f"score{form}",
                    task="score",
                    question=f"{stalling} {asked}".strip(),
                    answer=SCORING_ANSWER.format(
                        kind=kind_word(sample), level=level_word(sample, self.words)
                    ),
                    target=sample.target,
                    spread=sample.spread,
                    levels=sample.levels,
                )
            )
        return Built(made)


def level_word(sample: Sample, words: tuple[str, ...] = WORDS) -> str:
    """The word of the fifth of the scale that a sample's score lies in.

    Raises:
        ValueError: if it has no score.
    """
    if sample.target is None:
        raise ValueError(f"the sample {sample.id} has no score")
    return words[level_index(sample.target, *SCALE)]
