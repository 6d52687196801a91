"""The scale of scores: its ends, the words of its levels, and the ways to it from the scale of a data set.

Sources of the words: Q-Align (arXiv 2312.17090), VQA² (2411.03795).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SCALE = (1.0, 5.0)  # what the prompt asks for
OUTER = (0.0, 6.0)  # one step beyond it: where statistics of several answers cut a wild one off
DEFAULT_RANGE = (0.0, 100.0)  # of a data set that says nothing
# best first
WORDS = ("excellent", "good", "fair", "poor", "bad")
VQA2_WORDS = ("high", "good", "fair", "poor", "low")
LEVEL_VALUES = (5.0, 4.0, 3.0, 2.0, 1.0)
VOCABULARIES = {"vqa2": VQA2_WORDS, "ours": WORDS}
# of a distortion, the least first (VITAL, arXiv 2511.17962)
SEVERITIES = ("mild", "noticeable", "relatively severe", "severe", "very severe")
UNSEEN = "unnoticeable"  # of a level that changes nothing
# words that stand before a distortion, those and usual others
DEGREES = (*SEVERITIES, UNSEEN, "slight", "moderate", "strong", "serious", "obvious")
# of two media, for the first one
BETTER = 1.0
ALIKE = 0.5
WORSE = 0.0
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the way from the lower end to the upper


def clip(score: float) -> float:
    """Return a score as shown to a user, within 1-5; NaN stays NaN.

    >>> clip(7.0), clip(math.nan)
    (5.0, nan)
    """
    low, high = SCALE
    return score if math.isnan(score) else min(max(score, low), high)


def level_of(score: float) -> str:
    """Return the word of the level whose value is nearest to a score, of two as near the better one.

    What stands before a score in a response is to agree with the number. Levels of opinions are fifths of a
    range instead (`opinions.level_index`).

    >>> level_of(4.6), level_of(0.3), level_of(2.5)
    ('excellent', 'bad', 'fair')
    """
    return WORDS[len(WORDS) - min(max(math.floor(score + 0.5), 1), len(WORDS))]


def from_share(share: float) -> float:
    """Return the score at a share of the way from the lower end to the upper.

    >>> from_share(0.5)
    3.0
    """
    low, high = SCALE
    return low + (high - low) * share


def divide(mos: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Scale MOS by 5/high: MOS/20 for LSVQ (the released recipe), the identity for a 1-5 set.

    >>> divide(np.array([75.0]), np.array([0.0]), np.array([100.0]))
    array([3.75])
    """
    return mos * 5 / high


def clipped(mos: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Scale MOS by 5/high and clip it to 1-5, the range the prompt asks for."""
    return np.clip(divide(mos, low, high), *SCALE)


def affine(mos: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Map [low, high] onto [1, 5]: 1 + 4·(MOS − low)/(high − low)."""
    return 1 + 4 * (mos - low) / (high - low)


SCALES: dict[str, Callable[[FloatArray, FloatArray, FloatArray], FloatArray]] = {
    "divide": divide,
    "clip": clipped,
    "affine": affine,
}


def off_scale(targets: Iterable[float]) -> NDArray[np.bool_]:
    """(N,) bool, which targets lie outside 1-5: with the right native range few do.

    >>> off_scale([0.2, 1.0, 5.0, 7.0])
    array([ True, False, False,  True])
    """
    low, high = SCALE
    values = np.fromiter(targets, np.float64)
    return (values < low) | (values > high)
