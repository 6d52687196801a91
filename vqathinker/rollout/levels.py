"""Levels as a response tells them: the chances of five words in the place of its first token."""

from __future__ import annotations

import numpy as np

from vqathinker.rollout.engine import Response
from vqathinker.scale import SHARES, from_share


def level_chances(response: Response) -> list[float]:
    """The chances of the five watched words among one another, in their order."""
    watched = np.array(response.watched[0])
    chances = np.exp(watched - watched.max())
    return (chances / chances.sum()).tolist()  # type: ignore[no-any-return]


def expected_level(response: Response) -> float:
    """1 + 4·Σ weight·p over the watched words, best first, weights 1, 0.75, 0.5, 0.25 and 0."""
    return from_share(float(np.dot(level_chances(response), SHARES)))
