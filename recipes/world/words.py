"""What the base model is taught to say of its own clips: kinds, degrees and times, and a crude score.

The crude score counts all kinds alike by their strength, squeezed into the middle of the scale and with
noise: it carries no opinion of anybody. What human observers mind is to be learned from their scores.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .distortions import KINDS

DEGREES = ("slight", "moderate", "strong", "severe")
WEAKEST = 0.15  # no distortion is drawn below
TIMES = ("at the start", "in the middle", "at the end")
CLEAN = "no distortion"
BEST_CRUDE = 4.2
CRUDE_STEP = 0.28  # for as much as a degree
CRUDE_STD = 0.25
CRUDE_RANGE = (1.2, 4.8)


def degree(strength: float) -> int:
    """1 to 4, in equal steps of the strengths that are drawn."""
    return min(int(in_degrees(strength)), len(DEGREES) - 1) + 1


def in_degrees(strength: float) -> float:
    """0 to 4 for the strengths that are drawn."""
    return (strength - WEAKEST) / (1 - WEAKEST) * len(DEGREES)


def describe(strengths: Mapping[str, float], position: float) -> str:
    """Kinds by degree, the worst first.

    >>> describe({"noise": 0.2, "freeze": 0.9}, position=0.1)
    'severe freeze at the start, slight noise'
    """
    found = sorted(
        ((kind, degree(strengths[kind])) for kind in KINDS if kind in strengths), key=lambda pair: -pair[1]
    )
    phrases = [
        f"{DEGREES[level - 1]} {kind}" + (f" {time_of(position)}" if kind == "freeze" else "")
        for kind, level in found
    ]
    return ", ".join(phrases) or CLEAN


def time_of(position: float) -> str:
    """When a freeze is, in words."""
    return TIMES[min(int(position * len(TIMES)), len(TIMES) - 1)]


def crude_score(strengths: Mapping[str, float], rng: np.random.Generator) -> float:
    """A score of the number and strength of distortions alone, with two decimals."""
    total = sum(in_degrees(strength) + 0.5 for strength in strengths.values())
    score = BEST_CRUDE - CRUDE_STEP * total + rng.normal(0, CRUDE_STD)
    return round(float(np.clip(score, *CRUDE_RANGE)), 2)
