"""Pairs of media of which it is known which one is better, or that they are alike.

Source: VITAL (arXiv 2511.17962), section 3.2, Eq. 3.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

BETTER = 1.0
ALIKE = 0.5
WORSE = 0.0
RATIO = (4, 4, 2)  # better : worse : alike
ROUNDS = 50  # of drawing, after which a kind of pair that is too rare is given up
DRAWN_AT_ONCE = 4096


@dataclass(frozen=True)
class Pair:
    """Two media by their places.

    Attributes:
        first: place of the first.
        second: place of the second.
        preference: 1, 0.5 or 0 for a first one that is better, alike or worse.
    """

    first: int
    second: int
    preference: float


def preference(mean_1: float, std_1: float, mean_2: float, std_2: float) -> float:
    """Whether the first of two media is better (1), alike (0.5) or worse (0).

    They are alike unless the means differ by more than √(σ1² + σ2²).

    >>> preference(4, 0.3, 3, 0.4), preference(3, 0.3, 4, 0.4), preference(4, 0.6, 3, 0.8)
    (1.0, 0.0, 0.5)
    """
    margin = math.hypot(std_1, std_2)
    if mean_1 - mean_2 > margin:
        return BETTER
    return WORSE if mean_2 - mean_1 > margin else ALIKE


def draw_pairs(
    means: ArrayLike,
    stds: ArrayLike,
    groups: Sequence[Hashable],
    number: int,
    rng: np.random.Generator,
    *,
    ratio: tuple[float, float, float] = RATIO,
    strict: bool = True,
) -> list[Pair]:
    """Draw pairs within groups, better : worse : alike in a ratio; none comes twice.

    Args:
        means: (N,) of the opinions.
        stds: (N,) their standard deviations.
        groups: (N,) what pairs are drawn within, such as a data set and a kind of media.
        number: of pairs, shared out among the groups in proportion to their media.
        rng: draws them.
        ratio: of the three kinds.
        strict: whether a group that has too few of a kind gives fewer of the others too, so that the ratio
            stays.

    Returns:
        At most `number` pairs.
    """
    mean, std = (np.asarray(values, np.float64) for values in (means, stds))
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    usable = {group: np.array(places) for group, places in members.items() if len(places) > 1}
    total = sum(map(len, usable.values()))
    pairs: list[Pair] = []
    for places in usable.values():
        share = number * len(places) / total
        decided_share = (ratio[0] + ratio[1]) / sum(ratio)
        wanted = {True: round(share * decided_share), False: round(share * (1 - decided_share))}
        decided, alike = (
            _draw(mean, std, places, wanted[is_decided], is_decided, rng) for is_decided in (True, False)
        )
        if strict:  # a kind that falls short takes the other down
            kinds = ((True, decided), (False, alike))
            reached = min((len(found) / wanted[kind] for kind, found in kinds if wanted[kind]), default=0.0)
            decided = decided[: round(reached * wanted[True])]
            alike = alike[: round(reached * wanted[False])]
        pairs += _ordered(decided, mean, ratio[0] / max(ratio[0] + ratio[1], 1e-9))
        pairs += [Pair(first, second, ALIKE) for first, second in alike]
    return [pairs[place] for place in rng.permutation(len(pairs))]


def _draw(
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    places: NDArray[np.int_],
    number: int,
    is_decided: bool,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Different pairs of one kind, in the order in which they were drawn."""
    found: dict[frozenset[int], tuple[int, int]] = {}
    for _ in range(ROUNDS):
        if len(found) >= number:
            break
        first, second = rng.choice(places, (2, DRAWN_AT_ONCE))
        margin = np.hypot(std[first], std[second])
        differs = np.abs(mean[first] - mean[second]) > margin
        fits = (differs == is_decided) & (first != second)
        for pair in zip(first[fits].tolist(), second[fits].tolist(), strict=True):
            found.setdefault(frozenset(pair), pair)
    return list(found.values())[:number]


def _ordered(pairs: Sequence[tuple[int, int]], mean: NDArray[np.float64], share_better: float) -> list[Pair]:
    """Decided pairs, so many of them with the better one first."""
    num_better = round(share_better * len(pairs))
    ordered = []
    for number, (one, other) in enumerate(pairs):
        better, worse = (one, other) if mean[one] > mean[other] else (other, one)
        if number < num_better:
            ordered.append(Pair(better, worse, BETTER))
        else:
            ordered.append(Pair(worse, better, WORSE))
    return ordered
