"""From an annotator's own numbers to mean opinion scores."""

from __future__ import annotations

from collections.abc import Mapping as Named
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from vqathinker.metrics import fit_logistic

LEAST = 4  # labelled media, as many as there are parameters


@dataclass(frozen=True)
class ScoreMapping:
    """s' = γ3·sigmoid(γ1·s + γ2) + γ4 (VITAL, arXiv 2511.17962, Eq. 6).

    Attributes:
        gamma_1: of the score.
        gamma_2: added to it.
        gamma_3: from the lower end to the upper.
        gamma_4: the lower end.
    """

    gamma_1: float
    gamma_2: float
    gamma_3: float
    gamma_4: float

    def apply(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Map scores of any shape.

        >>> ScoreMapping(2, -6, 4, 1).apply([3, 300]).tolist()
        [3.0, 5.0]
        """
        share = expit(self.gamma_1 * np.asarray(scores, np.float64) + self.gamma_2)
        return np.asarray(self.gamma_3 * share + self.gamma_4)

    def to_dict(self) -> dict[str, float]:
        """The parameters by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Named[str, Any]) -> ScoreMapping:
        """Build a mapping from what `to_dict` gave.

        Raises:
            ValueError: if a parameter is missing.
        """
        names = tuple(cls.__dataclass_fields__)
        if absent := [name for name in names if name not in values]:
            raise ValueError(f"a mapping needs {', '.join(names)}; {absent[0]} is missing")
        return cls(**{name: float(values[name]) for name in names})


def fit_mapping(scores: ArrayLike, mos: ArrayLike) -> ScoreMapping:
    """Fit by least squares the mapping from scores of labelled media to their labels.

    Args:
        scores: (N,) an annotator's, N ≥ 4; better media may have higher or lower ones.
        mos: (N,) mean opinion scores.

    Raises:
        ValueError: if there are too few, or either list does not vary.
    """
    curve = fit_logistic(scores, mos)
    if np.isnan(curve.width):
        raise ValueError(
            f"no mapping can be fitted to {np.size(scores)} scores: it takes {LEAST} media, and both scores "
            "and labels have to vary"
        )
    return ScoreMapping(1 / curve.width, -curve.centre / curve.width, curve.upper - curve.lower, curve.lower)
