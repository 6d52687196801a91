"""A stated psychometric function and observers who rate by it: the mean opinion scores of the world.

Each distortion d of strength s annoys by J_d = a_d · s^g_d. Annoyances add up to J = (Σ J_d^p)^(1/p)
(Minkowski pooling: the worst one counts most), and quality falls with it as Q = 1 + 4 / (1 + J²), half way at
J = 1.
An observer of bias b rates round(Q + b + e) on the five-point scale of ITU-R BT.500, e normal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from .scenes import Array

# a_d and g_d: kinds annoy differently, which nobody can know who has not seen ratings
ANNOYANCE = {
    "blur": (2.4, 0.8),
    "noise": (0.9, 1.2),
    "contrast": (0.6, 1.5),
    "compression": (1.5, 1.5),
    "pixels": (2.0, 1.0),
    "freeze": (2.0, 1.0),
    "stutter": (1.6, 1.0),
    "flicker": (0.7, 1.0),
}
POOLING = 1.5  # p
NUM_OBSERVERS = 40  # in the pool
NUM_RATERS = 16  # per clip
BIAS_STD = 0.3
NOISE_STD = 0.6


def quality(strengths: Mapping[str, float]) -> float:
    """Q in (1, 5], which falls strictly with each strength."""
    annoyances = [ANNOYANCE[kind][0] * s ** ANNOYANCE[kind][1] for kind, s in strengths.items()]
    pooled = sum(j**POOLING for j in annoyances) ** (1 / POOLING)
    return 1 + 4 / (1 + pooled**2)


def rate(true: float, biases: Array, rng: np.random.Generator) -> Array:
    """The votes of some observers on a clip, (n,) whole numbers from 1 to 5.

    Args:
        true: its quality Q.
        biases: of the pool, of which `NUM_RATERS` are drawn.
        rng: draws them and their noise.
    """
    raters = rng.choice(biases, NUM_RATERS, replace=False)
    votes = np.rint(true + raters + rng.normal(0, NOISE_STD, NUM_RATERS))
    return np.clip(votes, 1, 5)


def ceiling(true: Sequence[float], mos: Sequence[float]) -> tuple[float, float]:
    """SRCC and PLCC with the MOS of an ideal scorer, which knows Q: what no model can be expected to pass."""
    return float(stats.spearmanr(true, mos).statistic), float(stats.pearsonr(true, mos).statistic)
