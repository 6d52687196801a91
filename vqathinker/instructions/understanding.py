"""Questions about what is known of a medium's quality (VQA², arXiv 2411.03795, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vqathinker.chat import ChatClient, Question
from vqathinker.choices import YES_NO
from vqathinker.distortions import DISTORTIONS
from vqathinker.instructions.base import (
    MODEL,
    Builder,
    Built,
    Rejection,
    closed,
    derive,
    draw,
    kind_word,
)
from vqathinker.instructions.facts import THROUGHOUT, Fact, facts_of
from vqathinker.instructions.leaks import gives_away
from vqathinker.instructions.recognition import name_of, names_of
from vqathinker.instructions.scoring import level_word
from vqathinker.instructions.wording import (
    CAUSAL_ANSWER,
    CAUSAL_QUESTIONS,
    CHOICE_QUESTIONS,
    DEGREE_QUESTIONS,
    EXTENDED_PROMPT,
    LOCAL_PROMPT,
    OPEN_ANSWERS,
    OPEN_QUESTIONS,
    QUESTIONS_PROMPT,
    RATING_ANSWERS,
    RATING_CHOICE_QUESTIONS,
    RATING_QUESTIONS,
    REMEDIES,
    REMEDY_QUESTIONS,
    TEMPORAL_ANSWERS,
    TEMPORAL_PROMPT,
    TEMPORAL_QUESTIONS,
    WHICH_QUESTIONS,
)
from vqathinker.samples import VIDEO, Sample
from vqathinker.scale import VOCABULARIES

TASK = "question"
NUM_OPTIONS = 4
LONGEST = 300  # letters that a model may write
LONGEST_OPTION = 100
SCHEMA = {
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {
                    "question": {"type": "string", "maxLength": LONGEST},
                    "options": {
                        "type": "array",
                        "items": {"type": "string", "maxLength": LONGEST_OPTION},
                        "maxItems": 6,
                    },
                    "answer": {"type": "string", "maxLength": LONGEST},
                },
                "required": ["question", "options", "answer"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["questions"],
    "additionalProperties": False,
}


class Understanding(Builder):
    """Binary, multiple-choice, open, temporal and extended questions, and a causal form.

    What is known comes from the columns that `facts.facts_of` reads. Without a model templates word it; with
    one, that rewrites the depiction, which may then be a text too (column `depiction`, and `local_depiction`
    for a moment or a place).

    Args:
        model: rewrites depictions.
        words: of the level in the causal form, "vqa2" or "ours".

    Raises:
        ValueError: for other words.
    """

    def __init__(self, *, model: ChatClient | None = None, words: str = "vqa2") -> None:
        if words not in VOCABULARIES:
            raise ValueError(f"words {words!r}: choose one of {', '.join(VOCABULARIES)}")
        self.model = model
        self.words = VOCABULARIES[words]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Built:
        """The questions that what is known can answer."""
        try:
            facts = facts_of(sample)
        except ValueError as error:
            return Built.rejected("its facts cannot be read", str(error))
        kind = kind_word(sample)
        told = sample.columns.get("depiction")
        text = told if isinstance(told, str) else " ".join(fact.statement(kind) for fact in facts)
        if not text:
            return Built.rejected("nothing is known of its quality")
        if self.model is not None:
            built = self._by_model(sample, text, rng)
        elif facts:
            built = Built(_by_template(sample, facts, rng))
        else:
            return Built.rejected("a depiction in prose needs a model")
        if sample.target is not None:
            built.samples.append(self._causal(sample, text, rng))
        return built

    def _causal(self, sample: Sample, text: str, rng: np.random.Generator) -> Sample:
        """The depiction, and the level that follows from it."""
        kind = kind_word(sample)
        answer = CAUSAL_ANSWER.format(depiction=text, kind=kind, level=level_word(sample, self.words))
        question = draw(CAUSAL_QUESTIONS, rng, kind=kind)
        return derive(sample, "causal", task="description", question=question, answer=answer)

    def _by_model(self, sample: Sample, text: str, rng: np.random.Generator) -> Built:
        """What a language model makes of a depiction, one prompt after the other."""
        assert self.model is not None
        kind = kind_word(sample)
        prompts = {"quality": QUESTIONS_PROMPT, "extended": EXTENDED_PROMPT}
        if sample.media[0].kind == VIDEO:
            prompts["temporal"] = TEMPORAL_PROMPT
        texts = dict.fromkeys(prompts, text)
        if local := sample.columns.get("local_depiction"):
            prompts["local"] = LOCAL_PROMPT
            texts["local"] = str(local)
        built = Built()
        for name, prompt in prompts.items():
            question = Question(prompt.format(kind=kind, text=texts[name]), schema=SCHEMA)
            try:
                entries = self.model.ask_json(question).get("questions")
            except ValueError as error:
                built.rejections.append(Rejection("the model's answer has another form", str(error)))
                continue
            for number, entry in enumerate(entries if isinstance(entries, list) else []):
                made = _checked(sample, f"{name}-{number}", entry, rng)
                if isinstance(made, Rejection):
                    built.rejections.append(made)
                else:
                    built.samples.append(made)
        return built


def _checked(sample: Sample, name: str, entry: Any, rng: np.random.Generator) -> Sample | Rejection:  # noqa: ANN401  JSON
    """A model's question as a sample, or why it cannot be one."""
    if not isinstance(entry, dict):
        return Rejection("the model's answer has another form", repr(entry))
    question, answer = (str(entry.get(key, "")).strip() for key in ("question", "answer"))
    given = entry.get("options")
    options = [_bare(str(option)) for option in given] if isinstance(given, list) else []
    if not question or not answer:
        return Rejection("the model left question or answer out", repr(entry))
    if "depiction" in f"{question} {answer}".lower():
        return Rejection("the model mentions the depiction", question)
    if options:
        right = _bare(answer)
        if len(set(options)) < len(options) or len(options) < len(YES_NO) or right not in options:
            return Rejection("the model's answer is none of its options", repr(entry))
        return closed(sample, name, question, options, options.index(right), rng, mode=MODEL)
    if gives_away(question, answer):
        return Rejection("the question gives its answer away", question)
    return derive(sample, name, task=TASK, question=question, answer=answer, mode=MODEL)


def _bare(option: str) -> str:
    """An option without a letter in front and a full stop behind.

    >>> _bare("B. Relatively good."), _bare("yes")
    ('Relatively good', 'yes')
    """
    text = option.strip().rstrip(".").strip()
    has_letter = len(text) > 2 and text[0].isalpha() and text[1] in ".):"
    return text[2:].strip() if has_letter else text


def _by_template(sample: Sample, facts: Sequence[Fact], rng: np.random.Generator) -> list[Sample]:
    """A question of each form, about facts that are drawn."""
    problems = [fact for fact in facts if fact.is_problem]
    made = [_binary(sample, _one(facts, rng), rng), _choice(sample, _one(facts, rng), rng)]
    made.append(_open(sample, _one(facts, rng), rng))
    # what is there all the time makes no question: its answer would always be the same
    timed = [fact for fact in problems if fact.time not in {"", THROUGHOUT}]
    if timed and sample.media[0].kind == VIDEO:
        fact = _one(timed, rng)
        question = draw(TEMPORAL_QUESTIONS, rng, attribute=fact.attribute)
        answer = draw(TEMPORAL_ANSWERS, rng, attribute=fact.attribute, time=fact.time)
        made.append(derive(sample, "temporal", task=TASK, question=question, answer=answer))
    curable = [(fact, remedy) for fact in problems if (remedy := _remedy(fact))]
    if curable:
        _, remedy = curable[int(rng.integers(len(curable)))]
        question = draw(REMEDY_QUESTIONS, rng, kind=kind_word(sample))
        made.append(derive(sample, "extended", task=TASK, question=question, answer=remedy))
    if len(problems) == 1 and sample.columns.get("distortion"):
        made.append(_which(sample, problems[0], rng))
    return [one for one in made if one is not None]


def _one(facts: Sequence[Fact], rng: np.random.Generator) -> Fact:
    return facts[int(rng.integers(len(facts)))]


def _binary(sample: Sample, fact: Fact, rng: np.random.Generator) -> Sample | None:
    """Whether an attribute has a degree: its own in half of the questions, else one that is not beside it."""
    if fact.degree not in fact.degrees:
        return None
    place = fact.degrees.index(fact.degree)
    others = [word for other, word in enumerate(fact.degrees) if abs(other - place) > 1]
    others = others or [word for word in fact.degrees if word != fact.degree]  # of three, the middle one
    is_true = bool(rng.integers(2))
    degree = fact.degree if is_true else others[int(rng.integers(len(others)))]
    stem = draw(DEGREE_QUESTIONS, rng, attribute=fact.attribute, degree=degree, kind=kind_word(sample))
    return closed(sample, "binary", stem, YES_NO, 0 if is_true else 1, rng)


def _choice(sample: Sample, fact: Fact, rng: np.random.Generator) -> Sample | None:
    """Which degree an attribute has."""
    if fact.degree not in fact.degrees:
        return None
    phrases = CHOICE_QUESTIONS if fact.is_problem else RATING_CHOICE_QUESTIONS
    stem = draw(phrases, rng, attribute=fact.attribute, kind=kind_word(sample))
    others = [word for word in fact.degrees if word != fact.degree]
    wrong = rng.permutation(others)[: NUM_OPTIONS - 1].tolist()
    return closed(sample, "choice", stem, [fact.degree, *wrong], 0, rng)


def _open(sample: Sample, fact: Fact, rng: np.random.Generator) -> Sample:
    """A question that is answered in a sentence."""
    kind = kind_word(sample)
    if fact.is_problem:
        question = draw(OPEN_QUESTIONS, rng, kind=kind)
        answer = draw(OPEN_ANSWERS, rng, fact=fact.phrase())
    else:
        question = draw(RATING_QUESTIONS, rng, attribute=fact.attribute, kind=kind)
        answer = draw(RATING_ANSWERS, rng, attribute=fact.attribute, degree=fact.degree)
    return derive(sample, "open", task=TASK, question=question, answer=answer)


def _which(sample: Sample, fact: Fact, rng: np.random.Generator) -> Sample:
    """Which of four kinds of distortion it is."""
    stem = draw(WHICH_QUESTIONS, rng, kind=kind_word(sample))
    # a kind that the name covers would be right too: white noise is noise
    others = [name_of(kind) for kind in DISTORTIONS if fact.attribute not in names_of(kind)]
    wrong = rng.permutation(others)[: NUM_OPTIONS - 1].tolist()
    return closed(sample, "which", stem, [fact.attribute, *wrong], 0, rng)


def _remedy(fact: Fact) -> str:
    """What helps against a problem, empty if nothing is known to."""
    return next((remedy for word, remedy in REMEDIES.items() if word in fact.attribute.lower()), "")
