"""The one place that reads a score from a response.

A response is `<think> reasoning </think> <answer> 3.42 </answer>`: one block of each, in this order, and
nothing but white space around them. Whatever else a text holds, it has no score.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from vqathinker.scale import OUTER as OUTER
from vqathinker.scale import SCALE as SCALE
from vqathinker.scale import clip as clip

THINK = "<think>"  # begins a block
ANSWER = "<answer>"
NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
TAGLESS = r"[^<]*+(?:<(?!/?(?:think|answer)>)[^<]*+)*+"  # any text without a tag, read in one go
THINK_BLOCK = rf"{THINK}(?P<reasoning>{TAGLESS})</think>\s*"
ANSWER_BLOCK = rf"{ANSWER}\s*(?P<written>{NUMBER})\s*</answer>"
FORM = re.compile(rf"\s*(?P<thought>{THINK_BLOCK})?{ANSWER}(?P<said>{TAGLESS})</answer>\s*")
RESPONSE = re.compile(rf"\s*{THINK_BLOCK}{ANSWER_BLOCK}\s*")
TAG = re.compile(r"</?(?:think|answer)>")
ANSWER_ONLY = re.compile(rf"\s*{ANSWER_BLOCK}\s*")


@dataclass(frozen=True)
class Answer:
    """A parsed response.

    Attributes:
        score: the number in the answer block.
        reasoning: the text of the think block without surrounding white space, empty if there is none.
        written: the number as the model wrote it, e.g. "3.50".
    """

    score: float
    reasoning: str
    written: str

    @property
    def num_decimals(self) -> int:
        """Digits after the decimal point as written: 2 for "3.50", 0 for "3"."""
        return len(self.written.partition(".")[2])


def parse(text: str, *, think: bool = True) -> Answer | None:
    """Read a response, or return None where it is not of the required form.

    Args:
        text: the response.
        think: False also accepts an answer block alone.

    >>> parse("<think>slight blur</think> <answer> 3.50 </answer>")
    Answer(score=3.5, reasoning='slight blur', written='3.50')
    >>> parse("I would say 3.5") is None
    True
    """
    match = RESPONSE.fullmatch(text)
    if match is None and not think:
        match = ANSWER_ONLY.fullmatch(text)
    if match is None:
        return None
    written = match["written"]
    value = float(written)
    if not math.isfinite(value):
        return None
    return Answer(value, (match.groupdict().get("reasoning") or "").strip(), written)


def score(text: str, *, think: bool = True) -> float:
    """Return the score of a response, NaN where it does not parse.

    >>> score("<think></think><answer>12</answer>"), score("3.5")
    (12.0, nan)
    """
    answer = parse(text, think=think)
    return math.nan if answer is None else answer.score


def is_formed(text: str, *, think: bool = True) -> bool:
    """Whether a response has the required form, whatever its answer says.

    >>> is_formed("<think>soft</think><answer>mild blur</answer>"), is_formed("<answer>blur</answer>")
    (True, False)
    """
    match = FORM.fullmatch(text)
    return match is not None and bool(match["said"].strip()) and (match["thought"] is not None or not think)


def without_tags(text: str) -> str:
    r"""Return a text for people, each of its blocks on lines of its own.

    >>> without_tags("<think>soft edges</think><answer>blurred</answer>")
    'soft edges\nblurred'
    """
    return "\n".join(part.strip() for part in TAG.split(text) if part.strip())


def render(reasoning: str | None, answer: float | str) -> str:
    """Write a response in the required form, a score with two decimals; None for an answer block alone.

    >>> parse(render("soft edges", 2.5)).score, render(None, "yes")
    (2.5, '<answer>yes</answer>')
    """
    think = "" if reasoning is None else f"{THINK}{reasoning}</think>"
    written = answer if isinstance(answer, str) else f"{answer:.2f}"
    return f"{think}{ANSWER}{written}</answer>"
