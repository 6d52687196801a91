"""Comparison of every response with the other videos of its data set, as pure functions.

Knows scores, targets and data set names; which comparison is worth what is decided in `rewards.ranking`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from vqathinker.types import FloatArray, IndexArray

BLOCK_SIZE = 1 << 15  # comparisons at a time: their few temporaries stay in the processor's cache
MIN_THREADED = 32  # blocks from which starting threads is worth its time
LARGEST = 1e150  # larger scores count as this, so that no square of them overflows


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


def fidelity(probability: FloatArray, truth: FloatArray | float, *, eps: float) -> FloatArray:
    """Return √(p·h+ε) + √((1−p)(1−h)+ε), elementwise: 1 + 2√ε at most for p = h, 2√ε for the opposite.

    Args:
        probability: predicted probability p that the first video is better.
        truth: h, which is 1, 0 or ½ for a first video that is better, worse or equal; broadcast.
        eps: ε > 0, keeps the roots' slopes finite.

    >>> fidelity(np.array([1.0, 0.0, 0.5]), np.array([1.0, 1.0, 0.5]), eps=1e-6).round(3)
    array([1.001, 0.002, 1.   ])
    """
    agree: FloatArray = np.sqrt(probability * truth + eps)
    agree += np.sqrt((1.0 - probability) * (1.0 - truth) + eps)
    return agree


@dataclass(frozen=True)
class Opponents:
    """What a video is compared with: place in the batch, mean, variance and target of J videos, each (J,)."""

    index: IndexArray
    mean: FloatArray
    variance: FloatArray
    target: FloatArray


def judge(
    scores: FloatArray,
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
        variance: (B,) variances σ_i².
        target: (B,).
        index: (B,) places in the batch; a video is not its own opponent.
        opponents: J videos.
        eps: ε > 0.
    """
    order = np.sign(target[:, None] - opponents.target)  # (B, J)
    tied = order == 0
    counted = index[:, None] != opponents.index
    # Φ(−z) = 1 − Φ(z): signed by the true order, z gives the probability of that order, whose h is 1
    slope = np.where(tied, 1.0, order) / np.sqrt((variance + eps)[:, None] + opponents.variance)
    values = scores[:, :, None] - opponents.mean  # (B, K, J), from here on in place
    values *= slope[:, None, :]
    ndtr(values, out=values)
    video, opponent = np.nonzero(tied & counted)
    tied_fidelity = fidelity(values[video, :, opponent], 0.5, eps=eps)
    values += eps
    np.sqrt(values, out=values)
    values += math.sqrt(eps)
    values[video, :, opponent] = tied_fidelity
    total = np.matmul(values, counted[:, :, None].astype(np.float64))[:, :, 0]
    mean: FloatArray = total / np.maximum(counted.sum(axis=1, keepdims=True), 1)
    return mean


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
    Φ((s−μ_j)/√(σ_i²+σ_j²+ε)).
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
        rewards[i] = judge(scores[i], own_variance[i], target[i], i, others, eps=eps)

    if len(blocks) < MIN_THREADED:
        for block in blocks:
            fill(block)
    else:
        with ThreadPoolExecutor() as pool:  # NumPy lets go of the interpreter lock in these loops
            list(pool.map(fill, blocks))
    return np.where(np.isnan(scores), 0.0, rewards)
