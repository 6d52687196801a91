"""Questions about media: how they are put, which answers are right, and what they are counted by.

Sources: Q-Bench-Video (arXiv 2409.20063), FineVD (arXiv 2412.19238).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from string import ascii_uppercase

from vqathinker.choices import OWN_LABEL, lettered, named
from vqathinker.choices import parse_choice as parse_choice
from vqathinker.choices import parse_yes_no as parse_yes_no
from vqathinker.samples import SCORE, Sample
from vqathinker.scale import DEGREES

LETTER_ALONE = "Answer with the letter of the right option alone."
LISTED = re.compile(r"(?<![A-Za-z])\(?([A-Z])\s*[.:)]")
YES_AND_NO = re.compile(r"\byes\b.*\bno\b|\bno\b.*\byes\b", re.IGNORECASE | re.DOTALL)
RECOGNITION = "recognition"
CONCERN = "quality_concern"
CONCERN_MARK = "CONCERN_"
# columns of samples that answers are counted by, as Q-Bench-Video's tables do
FACETS = ("question_type", CONCERN, "context", "video_type", "distortion")


def is_closed(sample: Sample) -> bool:
    """Whether a sample is a question with options, one of which is known to be right."""
    return bool(sample.options) and sample.correct is not None


def is_named(sample: Sample) -> bool:
    """Whether a sample asks for the name of a distortion, without options."""
    return sample.task == RECOGNITION and bool(sample.answer) and not is_closed(sample)


def is_open(sample: Sample) -> bool:
    """Whether a sample is a question with a reference answer, which a judge has to compare."""
    is_asked = sample.task != SCORE and bool(sample.question) and bool(sample.answer)
    return is_asked and not is_closed(sample) and not is_named(sample)


def is_right(sample: Sample, text: str) -> bool | None:
    """Whether an answer is right: a choice, or the kind of a distortion; None where only a judge can tell."""
    if is_closed(sample):
        return parse_choice(text, sample.options) == sample.correct
    if is_named(sample):
        kind = named(text, DEGREES)[1]
        return bool(kind) and kind == named(sample.answer or "", DEGREES)[1]
    return None


def wording(sample: Sample) -> str | None:
    """A question as it is put: with its options and how to answer, where it does not list them itself.

    None for the checkpoint's own question.
    """
    question = sample.question
    if question is None or not is_closed(sample) or _lists_options(question, sample.options):
        return question
    options = [OWN_LABEL.sub("", option) for option in sample.options]
    lines = [lettered(place, option) for place, option in enumerate(options)]
    return "\n".join([question, *lines, LETTER_ALONE])


def _lists_options(question: str, options: Sequence[str]) -> bool:
    """Whether a question has its options' letters in order, or asks for yes or no in words."""
    if {option.casefold() for option in options} == {"yes", "no"} and YES_AND_NO.search(question):
        return True
    letters = "".join(LISTED.findall(question))
    return letters.startswith(ascii_uppercase[: len(options)])


def problem(sample: Sample) -> str:
    """Why a question cannot be asked, empty if it can."""
    if sample.question is not None and sample.question and not sample.question.strip():
        return "its question is blank"
    if len(sample.options) > len(ascii_uppercase):
        return f"it has {len(sample.options)} options, and there are {len(ascii_uppercase)} letters"
    return ""


def facets(sample: Sample) -> Iterator[tuple[str, str]]:
    """What an answer is counted by, names and values; a row belongs to every concern in its name.

    >>> columns = {"question_type": "what/how", "quality_concern": "CONCERN_Technical_Temporal"}
    >>> list(facets(Sample("1", "d", ("a.mp4",), "question", columns=columns)))
    [('question_type', 'what/how'), ('quality_concern', 'Technical'), ('quality_concern', 'Temporal')]
    """
    for name in FACETS:
        value = sample.columns.get(name)
        if value is None:
            continue
        if name == CONCERN:
            yield from ((name, part) for part in str(value).removeprefix(CONCERN_MARK).split("_"))
        else:
            yield name, str(value)


def chance(samples: Sequence[Sample]) -> float:
    """The accuracy of drawn letters: the mean of one over the number of options.

    NaN without closed questions.
    """
    shares = [1 / len(sample.options) for sample in samples if is_closed(sample)]
    return sum(shares) / len(shares) if shares else float("nan")


def majority(samples: Sequence[Sample]) -> tuple[str, float]:
    """The answer that is right most often, and the accuracy of who gives it always.

    The options' words where all questions have the same ones, else letters; of names the name.
    """
    closed = [sample for sample in samples if is_closed(sample) or is_named(sample)]
    if not closed:
        return "", float("nan")
    are_same = len({frozenset(sample.options) for sample in closed}) == 1
    right = [_right(sample, in_words=are_same) for sample in closed]
    best = max(sorted(set(right)), key=right.count)
    return best, right.count(best) / len(right)


def _right(sample: Sample, *, in_words: bool) -> str:
    if sample.correct is None:
        return named(sample.answer or "", DEGREES)[1]
    return sample.options[sample.correct] if in_words else ascii_uppercase[sample.correct]
