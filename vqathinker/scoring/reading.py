"""From responses to a number: greedy, several samples, expected digits, level words.

Pure functions of responses; knows no file and no engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import trim_mean
from transformers import PreTrainedTokenizerBase

from vqathinker import answers
from vqathinker.model import VQAThinkerProcessor
from vqathinker.prompts import IMAGE_LEVEL_OPENING, LEVEL_OPENING
from vqathinker.rollout import Response
from vqathinker.rollout.levels import expected_level, level_chances
from vqathinker.scoring.mode import Mode
from vqathinker.scoring.result import Score

TRIMMED = 0.25  # share of the samples left out at either end


def read(
    responses: Sequence[Response],
    processor: VQAThinkerProcessor,
    mode: Mode,
    *,
    think: bool = True,
    is_image: bool = False,
) -> Score:
    """The score that the responses to one video hold; what was seen of the video is not said in it.

    Args:
        responses: those of one request.
        processor: of the checkpoint that answered.
        mode: how.
        think: False also reads the score of an answer block alone.
        is_image: whether they are about a picture.
    """
    if mode.levels:
        return _read_levels(responses[0], mode, processor.level_words, is_image=is_image)
    tokenizer = processor.tokenizer
    texts = tuple(str(tokenizer.decode(r.token_ids, skip_special_tokens=True)) for r in responses)
    samples = tuple(answers.score(text, think=think) for text in texts)
    if mode.expected:
        value = expected_value(responses[0], tokenizer, answers.parse(texts[0], think=think))
        return _score(value, mode, texts, samples=samples, details={"greedy": samples[0]})
    if mode.samples == 1:
        return _score(samples[0], mode, texts, samples=samples)
    certainty = [math.exp(sum(r.logprobs) / len(r.logprobs)) for r in responses]
    scores = [answers.clip(score) for score in samples]  # one of 35 for 3.5 would outweigh the others
    details = combine(scores, certainty)
    valid = [score for score in scores if not math.isnan(score)]
    spread = float(np.std(valid, ddof=1)) if len(valid) > 1 else math.nan
    raw = details[mode.combine]
    return _score(raw, mode, texts, samples=samples, spread=spread, details=details)


def combine(samples: Sequence[float], certainty: Sequence[float]) -> dict[str, float]:
    """Combine n sampled scores in each of the four ways, leaving out those that are NaN.

    Args:
        samples: n scores.
        certainty: n positive weights.

    >>> combine([2.0, 3.0, 3.0, 9.0, math.nan], [1, 1, 1, 1, 1])
    {'mean': 4.25, 'median': 3.0, 'trimmed': 3.0, 'confidence': 4.25}
    """
    scores = np.array(samples, dtype=np.float64)
    weights = np.array(certainty, dtype=np.float64)
    valid = ~np.isnan(scores)
    if not valid.any():
        return dict.fromkeys(WAYS, math.nan)
    return {name: float(way(scores[valid], weights[valid])) for name, way in WAYS.items()}


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "mean": lambda scores, weights: scores.mean(),
    "median": lambda scores, weights: np.median(scores),
    "trimmed": lambda scores, weights: trim_mean(scores, TRIMMED),
    "confidence": lambda scores, weights: np.average(scores, weights=weights),
}


def expected_value(
    response: Response, tokenizer: PreTrainedTokenizerBase, answer: answers.Answer | None
) -> float:
    """Replace every digit of the answer by its expectation.

    Args:
        response: greedy, with the log-probabilities of the ten digits watched.
        tokenizer: turns its ids into text.
        answer: what the response says; NaN is returned for None.

    Raises:
        ValueError: if the tokenizer does not write a number digit by digit.
    """
    if answer is None:
        return math.nan
    number = answer.written.lstrip("+-")
    places = len(number.partition(".")[0])
    number = number.strip(".")  # a point at an end may share its token with the tag beside it
    value = 0.0
    for position, character in zip(_positions(response, tokenizer, number), number, strict=True):
        if character == ".":
            continue
        places -= 1
        chances = np.exp(np.array(response.watched[position]) - max(response.watched[position]))
        value += 10.0**places * float(chances @ np.arange(10) / chances.sum())
    return -value if answer.written.startswith("-") else value


def _positions(response: Response, tokenizer: PreTrainedTokenizerBase, number: str) -> range:
    """Positions of the answer's tokens, one per character: the last ones that spell it."""
    pieces = [str(tokenizer.decode([token])).strip() for token in response.token_ids]
    for start in range(len(pieces) - len(number), -1, -1):
        if pieces[start : start + len(number)] == list(number):
            return range(start, start + len(number))
    raise ValueError(f"the tokenizer does not write {number} digit by digit, so it has no expected value")


def _read_levels(response: Response, mode: Mode, words: Sequence[str], *, is_image: bool) -> Score:
    """The expected level of the watched words, on the 1-5 scale."""
    details = dict(zip(words, level_chances(response), strict=True))
    likeliest = max(details, key=lambda word: details[word])
    text = f"{IMAGE_LEVEL_OPENING if is_image else LEVEL_OPENING} {likeliest}"
    return _score(expected_level(response), mode, (text,), details=details)


def _score(raw: float, mode: Mode, texts: tuple[str, ...], **others: Any) -> Score:
    """A score on the scale, with the number that it was before."""
    return Score(score=answers.clip(raw), raw=raw, mode=mode.name, texts=texts, **others)
