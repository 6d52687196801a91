"""Pairs of media of which it is known which one is better, or that they are alike.

Source: VITAL (arXiv 2511.17962), section 3.2, Eq. 3.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vqathinker.scale import ALIKE, BETTER, WORSE

RATIO = (4, 4, 2)  # better : worse : alike
ROUNDS = 20  # of drawing in which nothing new comes, after which a kind of pair counts as exhausted
TINY = 1e-9
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


def preference(mean_1: float, std_1: float | None, mean_2: float, std_2: float | None) -> float:
    """Whether the first of two media is better (1), alike (0.5) or worse (0).

    They are alike unless the means differ by more than √(σ1² + σ2²); a spread that is not known, None or NaN,
    counts as none.

    >>> preference(4, 0.3, 3, 0.4), preference(3, 0.3, 4, 0.4), preference(4, 0.6, 3, 0.8)
    (1.0, 0.0, 0.5)
    """
    margin = math.hypot(*(0.0 if std is None or math.isnan(std) else std for std in (std_1, std_2)))
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
        stds: (N,) their standard deviations, NaN where one is not known, which counts as none.
        groups: (N,) what pairs are drawn within, such as a data set and a kind of media.
        number: of pairs, shared out among the groups in proportion to their media.
        rng: draws them.
        ratio: of the three kinds.
        strict: whether the ratio stays where there are too few pairs of a kind, so that there are fewer of
            the others too.

    Returns:
        At most `number` pairs.
    """
    mean = np.asarray(means, np.float64)
    std = np.nan_to_num(np.asarray(stds, np.float64))
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    usable = [np.array(places) for places in members.values() if len(places) > 1]
    decided_share = (ratio[0] + ratio[1]) / sum(ratio)
    wanted = {True: round(number * decided_share), False: number - round(number * decided_share)}
    found: dict[bool, list[tuple[int, int]]] = {}
    for is_decided, total in wanted.items():
        shares = shared_out(total, [len(places) for places in usable])
        drawn = [
            pair
            for places, share in zip(usable, shares, strict=True)
            for pair in _draw(mean, std, places, share, is_decided, rng)
        ]
        found[is_decided] = [drawn[place] for place in rng.permutation(len(drawn))]
    if strict:  # a kind that falls short takes the other down
        reached = min((len(found[kind]) / total for kind, total in wanted.items() if total), default=0.0)
        found = {kind: pairs[: round(reached * wanted[kind])] for kind, pairs in found.items()}
    pairs = [Pair(first, second, ALIKE) for first, second in found[False]]
    pairs += _ordered(found[True], mean, ratio[0] / max(ratio[0] + ratio[1], TINY))
    return [pairs[place] for place in rng.permutation(len(pairs))]


def shared_out(number: int, sizes: Sequence[float]) -> list[int]:
    """A number shared out in proportion to sizes, in whole parts that sum to it.

    >>> shared_out(4, [2, 2, 2, 2, 2])
    [1, 1, 0, 1, 1]
    """
    ends = np.round(number * np.cumsum([0, *sizes]) / max(sum(sizes), 1)).astype(int)
    return [int(part) for part in np.diff(ends)]


def _draw(
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    places: NDArray[np.int_],
    number: int,
    is_decided: bool,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Different pairs of one kind, in the order in which they were drawn; fewer where they are rare."""
    found: dict[frozenset[int], tuple[int, int]] = {}
    empty = 0
    while len(found) < number and empty < ROUNDS:
        before = len(found)
        first, second = rng.choice(places, (2, DRAWN_AT_ONCE))
        margin = np.hypot(std[first], std[second])
        differs = np.abs(mean[first] - mean[second]) > margin
        fits = (differs == is_decided) & (first != second)
        for pair in zip(first[fits].tolist(), second[fits].tolist(), strict=True):
            found.setdefault(frozenset(pair), pair)
        empty = empty + 1 if len(found) == before else 0
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
