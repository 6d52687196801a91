"""From opinions to levels: what a mean and a standard deviation say about five words.

Sources: DeQA-Score (arXiv 2501.11561), section 3; VITAL (arXiv 2511.17962), section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from vqathinker.scale import LEVEL_VALUES

FloatArray = NDArray[np.float64]

MASSES = ("interval", "density")
# in steps from level to level (DeQA-Score's released code): below this spread, or beyond this error of the
# mean, the two levels beside the mean share it
LEAST_SPREAD = 0.2
MOST_ERROR = 0.1
TINY = 1e-9


def level_probabilities(
    mean: float, std: float | None, *, values: Sequence[float] = LEVEL_VALUES, mass: str = "interval"
) -> FloatArray:
    """The distribution over five levels of opinions with this mean and spread.

    The mass of a normal distribution in each level's interval, p, becomes α·p + β, so that the sum is 1 and
    the mean is kept; what is negative then is 0, and the sum is made 1 again. Where the spread is small or
    not known, or the mean is missed, the two levels beside the mean share it in proportion.

    Args:
        mean: of the opinions, on the axis of `values`; beyond its ends it counts as the end.
        std: their standard deviation; None or NaN if it is not known.
        values: of the levels, best first, equally spaced.
        mass: "interval", the probability within half a step, or "density", the density at the level.

    Returns:
        (5,) probabilities, best first.

    Raises:
        ValueError: for a mean that is no number, a negative spread, levels that are not equally spaced, or
            another `mass`.

    >>> level_probabilities(4.0, 0.5).round(3).tolist()
    [0.157, 0.685, 0.157, 0.001, 0.0]
    >>> level_probabilities(3.25, None).tolist()
    [0.0, 0.25, 0.75, 0.0, 0.0]
    """
    centres = np.asarray(values, np.float64)
    step = _step(centres)
    if mass not in MASSES:
        raise ValueError(f"unknown mass {mass!r}, choose one of {', '.join(MASSES)}")
    if not math.isfinite(mean):
        raise ValueError(f"the mean of the opinions is {mean}")
    mean = min(max(mean, float(centres[-1])), float(centres[0]))
    if std is None or math.isnan(std):
        return between(mean, centres)
    if std < 0:
        raise ValueError(f"the standard deviation of the opinions is {std}")
    if std < LEAST_SPREAD * step:
        return between(mean, centres)
    raw = raw_masses(mean, std, centres, mass)
    alpha, beta = adjustment(raw, mean, centres)
    clipped = np.maximum(alpha * raw + beta, 0)
    adjusted = np.asarray(clipped / clipped.sum())
    # DeQA-Score looks before the sum is made 1, which may move the mean once more
    if max(abs(clipped @ centres - mean), abs(adjusted @ centres - mean)) > MOST_ERROR * step:
        return between(mean, centres)
    return adjusted


def raw_masses(mean: float, std: float, centres: FloatArray, mass: str = "interval") -> FloatArray:
    """(5,) what a normal distribution has at each level, before the adjustment."""
    step = _step(centres)
    if mass == "density":
        return np.asarray(step * norm.pdf(centres, mean, std))
    upper, lower = (norm.cdf(centres + half, mean, std) for half in (step / 2, -step / 2))
    return np.asarray(upper - lower)


def adjustment(raw: FloatArray, mean: float, centres: FloatArray) -> tuple[float, float]:
    """α and β, so that α·p + β sums to 1 and has the mean.

    Where the distribution is symmetric about the middle level, its mean is right already and both equations
    are one: α makes the sum 1, β is 0.
    """
    total = float(raw.sum())
    middle = float(centres.mean())
    lean = float(raw @ centres) - middle * total
    if abs(lean) < TINY:
        return 1 / total, 0.0
    alpha = (mean - middle) / lean
    return alpha, (1 - alpha * total) / len(centres)


def between(mean: float, centres: FloatArray) -> FloatArray:
    """(5,) the two levels beside the mean, the nearer one in proportion more.

    >>> between(4.75, np.array(LEVEL_VALUES)).tolist()
    [0.75, 0.25, 0.0, 0.0, 0.0]
    """
    step = _step(centres)
    return np.asarray(np.maximum(1 - np.abs(centres - mean) / step, 0))


def level_index(mean: float, low: float, high: float, number: int = len(LEVEL_VALUES)) -> int:
    """Which of equal intervals of a range a mean lies in, the best one 0; a bound belongs to the better one.

    >>> level_index(66.7, 0, 100), level_index(100, 0, 100), level_index(20, 0, 100)
    (1, 0, 3)
    """
    share = (mean - low) / (high - low)
    return number - 1 - min(max(math.floor(share * number), 0), number - 1)


def _step(centres: FloatArray) -> float:
    """From level to level."""
    steps = -np.diff(centres)
    if len(centres) < 2 or not (steps > 0).all() or not np.allclose(steps, steps[0]):
        raise ValueError(f"levels {centres.tolist()}: expected equal steps from the best to the worst")
    return float(steps[0])
