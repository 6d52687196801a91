"""Comparison of every response with the other videos of its data set, as pure functions.

Knows scores, targets and data set names; which comparison is worth what is decided in `rewards.ranking`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from vqathinker.types import FloatArray, IndexArray

BLOCK_SIZE = 1 << 16  # comparisons at a time: their few temporaries stay in the processor's cache
MIN_THREADED = 16  # blocks from which starting threads is worth its time
NUM_THREADS = min(8, os.cpu_count() or 1)
LARGEST = 1e150  # larger scores count as this, so that no square of them overflows
CELLS = 1 << 13  # chords per unit of z: at most 2e-10 off, as |f''| < 0.17 for every ε
REACH = 9.5  # |z| from which both fidelities are constant to 1e-10, for every ε


def group_statistics(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean (N,) and the unbiased variance (N,) of the valid responses of every video.

    The mean is NaN without a valid response, the variance 0 with fewer than two.

    Args:
        scores: (N, K), NaN where a response has no score.

    >>> group_statistics(np.array([[3.0, 4.0, 5.0], [2.0, np.nan, np.nan]]))
    (array([4., 2.]), array([1., 0.]))
    """
    valid = ~np.isnan(scores)
    num_valid = valid.sum(axis=1)
    mean = scores.sum(axis=1, where=valid) / np.maximum(num_valid, 1)
    squares = np.square(scores - mean[:, None]).sum(axis=1, where=valid)
    return np.where(num_valid > 0, mean, np.nan), squares / np.maximum(num_valid - 1, 1)


def fidelity(z: FloatArray, truth: float, *, eps: float) -> FloatArray:
    """Return √(p·h+ε) + √((1−p)(1−h)+ε) for p = Φ(z), elementwise: 1 + 2√ε at most, 2√ε for p = 1−h.

    Args:
        z: difference of two videos in standard deviations; p is the probability that the first is better.
        truth: h, which is 1, 0 or ½ for a first video that is better, worse or equal.
        eps: ε > 0, keeps the roots' slopes finite.

    >>> fidelity(np.array([9.0, -9.0]), 1.0, eps=1e-6).round(3)
    array([1.001, 0.002])
    """
    agree: FloatArray = np.sqrt(ndtr(z) * truth + eps)
    agree += np.sqrt(ndtr(-z) * (1.0 - truth) + eps)
    return agree


@dataclass(frozen=True)
class Chords:
    """A function of z as a table of lines: value ≈ intercept + slope·x in the cell ⌊x⌋, x = (z + REACH)·CELLS.

    Two look-ups take a quarter of the time of the normal distribution and a square root.
    """

    intercept: FloatArray
    slope: FloatArray
    at_zero: float

    def total(self, spread: FloatArray, gap: FloatArray, scale: FloatArray) -> FloatArray:
        """Return the sum (B, K) of f((spread + gap)·scale) over the J opponents whose scale is not 0.

        Args:
            spread: (B, K) scores less their video's mean, so at most √K standard deviations.
            gap: (B, J) that mean less the opponents' means.
            scale: (B, J).
        """
        step = scale * CELLS
        start = np.clip(gap * step, -1e9, 1e9) + REACH * CELLS  # a finite integer, beyond the table or not
        x = spread[:, :, None] * step[:, None, :]  # (B, K, J)
        x += start[:, None, :]
        cell = x.astype(np.int64)
        line = np.take(self.slope, cell, mode="clip")
        total: FloatArray = np.vecdot(x, line)
        total += np.take(self.intercept, cell, out=line, mode="clip").sum(axis=-1)
        return total - (scale == 0).sum(axis=1, keepdims=True) * self.at_zero


@lru_cache(maxsize=4)
def tabulate(truth: float, eps: float) -> Chords:
    """Return the fidelity for one h as chords, shifted to halve their error; constant in the outermost cells."""
    z = np.arange(2 * int(REACH * CELLS) * 2 + 1) / (2 * CELLS) - REACH  # borders and middles of the cells
    values = fidelity(z, truth, eps=eps)
    border, middle = values[::2], values[1::2]
    slope = np.diff(border)
    slope[[0, -1]] = 0.0
    value = 0.5 * middle + 0.25 * (border[1:] + border[:-1])
    intercept = value - slope * (np.arange(len(slope)) + 0.5)
    zero = int(REACH * CELLS)
    return Chords(intercept, slope, float(intercept[zero] + slope[zero] * zero))


@dataclass(frozen=True)
class Opponents:
    """What a video is compared with: place in the batch, mean, variance and target of J videos, each (J,)."""

    index: IndexArray
    mean: FloatArray
    variance: FloatArray
    target: FloatArray


def judge(
    scores: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
    target: FloatArray,
    index: IndexArray,
    opponents: Opponents,
    *,
    eps: float,
) -> FloatArray:
    """Return the mean fidelity (B, K) of the scores of B videos over their opponents, 0 without one.

    Args:
        scores: (B, K).
        mean: (B,) means of the valid scores.
        variance: (B,) variances σ_i².
        target: (B,).
        index: (B,) places in the batch; a video is not its own opponent.
        opponents: J videos.
        eps: ε > 0.
    """
    spread = np.where(np.isnan(scores), 0.0, scores - mean[:, None])
    gap = mean[:, None] - opponents.mean  # (B, J)
    scale = 1.0 / np.sqrt((variance + eps)[:, None] + opponents.variance)
    order = np.sign(target[:, None] - opponents.target)
    # Φ(−z) = 1 − Φ(z): signed by the true order, z gives the probability of that order, whose h is 1
    total = tabulate(1.0, eps).total(spread, gap, order * scale)
    counted = index[:, None] != opponents.index
    tied = (order == 0) & counted
    some = tied.any(axis=0)
    if some.any():
        total += tabulate(0.5, eps).total(spread, gap[:, some], (tied * scale)[:, some])
    num_opponents = counted.sum(axis=1, keepdims=True)
    return np.where(num_opponents > 0, total / np.maximum(num_opponents, 1), 0.0)


def mean_fidelity(
    scores: FloatArray,
    target: FloatArray,
    dataset: Sequence[str],
    *,
    against: FloatArray | None = None,
    eps: float = 1e-6,
) -> FloatArray:
    """Return the mean fidelity (N, K) of every response over its opponents; 0 without a score or an opponent.

    Opponents of video i are all other videos of its data set with a valid response. p =
    Φ((s−μ_j)/√(σ_i²+σ_j²+ε)). Within 2e-10 of the exact value.
    Memory: a block of about `BLOCK_SIZE` comparisons per thread, never all N·K·N.

    Args:
        scores: (N, K) scores to judge; σ_i is their spread, and ±1e150 the largest that is told apart.
        target: (N,) mean opinion scores.
        dataset: N names.
        against: (N, K') scores whose μ_j and σ_j the opponents have; `scores` itself if omitted.
        eps: ε > 0.

    >>> mean_fidelity(np.array([[4.0], [2.0], [3.0]]), np.array([4.0, 2.0, 9.0]), ["a", "a", "b"]).round(3)
    array([[1.001],
           [1.001],
           [0.   ]])
    """
    scores = np.clip(scores, -LARGEST, LARGEST)
    own_mean, own_variance = mean, variance = group_statistics(scores)
    if against is not None:
        mean, variance = group_statistics(np.clip(against, -LARGEST, LARGEST))
    names = np.asarray(dataset)
    rewards = np.zeros_like(scores)
    blocks: list[tuple[IndexArray, Opponents]] = []
    for name in np.unique(names):
        videos = np.flatnonzero((names == name) & ~np.isnan(own_mean))
        index = np.flatnonzero((names == name) & ~np.isnan(mean))
        opponents = Opponents(index, mean[index], variance[index], target[index])
        size = max(1, BLOCK_SIZE // max(1, scores.shape[1] * len(index)))
        blocks += [(videos[start : start + size], opponents) for start in range(0, len(videos), size)]

    def fill(block: tuple[IndexArray, Opponents]) -> None:
        i, others = block
        rewards[i] = judge(scores[i], own_mean[i], own_variance[i], target[i], i, others, eps=eps)

    if len(blocks) < MIN_THREADED:
        for block in blocks:
            fill(block)
    else:
        with ThreadPoolExecutor(NUM_THREADS) as pool:  # NumPy lets go of the interpreter lock in these loops
            list(pool.map(fill, blocks))
    return np.where(np.isnan(scores), 0.0, rewards)
