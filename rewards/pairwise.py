"""Comparison of every response with the other videos of its data set, as pure functions.

Knows scores, targets and data set names; which comparison is worth what is decided in `rewards.ranking`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from rewards.fidelity import Workspace, tabulate
from vqathinker.types import FloatArray, IndexArray

BLOCK_SIZE = 1 << 19  # comparisons at a time: 12 MiB per thread, enough to hide the calls
MIN_THREADED = 1 << 21  # comparisons from which starting threads is worth its time
NUM_THREADS = min(8, os.cpu_count() or 1)
LARGEST = 1e150  # without bounds larger scores count as this, so that no square of them overflows


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


@dataclass(frozen=True)
class Videos:
    """What is known of J videos, each (J,): place in the batch, target, mean and variance of the scores."""

    index: IndexArray
    target: FloatArray
    mean: FloatArray
    variance: FloatArray

    @classmethod
    def of(cls, scores: FloatArray, target: FloatArray) -> Videos:
        """Describe the videos of a whole batch from scores (N, K) and targets (N,)."""
        return cls(np.arange(len(target)), target, *group_statistics(scores))

    def take(self, place: IndexArray) -> Videos:
        """Return some of them."""
        return Videos(self.index[place], self.target[place], self.mean[place], self.variance[place])


def fidelity_of(
    scores: FloatArray, videos: Videos, opponents: Videos, *, eps: float, workspace: Workspace
) -> FloatArray:
    """Return the mean fidelity (B, K) of the scores of B videos over their opponents, 0 without one.

    Args:
        scores: (B, K).
        videos: the B videos; none is its own opponent.
        opponents: J videos.
        eps: ε > 0.
        workspace: for at least B·K·J comparisons.
    """
    spread = np.where(np.isnan(scores), 0.0, scores - videos.mean[:, None])
    gap = videos.mean[:, None] - opponents.mean  # (B, J)
    scale = 1.0 / np.sqrt((videos.variance + eps)[:, None] + opponents.variance)
    order = np.sign(videos.target[:, None] - opponents.target)
    # Φ(−z) = 1 − Φ(z): signed by the true order, z gives the probability of that order, whose h is 1
    total = tabulate(1.0, eps).total(spread, gap, order * scale, workspace)
    counted = videos.index[:, None] != opponents.index
    tied = (order == 0) & counted
    some = tied.any(axis=0)
    if some.any():
        total += tabulate(0.5, eps).total(spread, gap[:, some], (tied * scale)[:, some], workspace)
    num_opponents = counted.sum(axis=1, keepdims=True)
    return np.where(num_opponents > 0, total / np.maximum(num_opponents, 1), 0.0)


def mean_fidelity(
    scores: FloatArray,
    target: FloatArray,
    dataset: Sequence[str],
    *,
    against: FloatArray | None = None,
    eps: float = 1e-6,
    bounds: tuple[float, float] | None = None,
    among: int | None = None,
) -> FloatArray:
    """Return the mean fidelity (N, K) of every response over its opponents; 0 without a score or an opponent.

    Opponents of video i are all other videos of its data set with a valid response, or of its part of the
    data set if `among` cuts it. p = Φ((s−μ_j)/√(σ_i²+σ_j²+ε)). Exact to 2e-9.
    Memory: a block of about `BLOCK_SIZE` comparisons per thread, never all N·K·N.

    Args:
        scores: (N, K) scores to judge; σ_i is their spread.
        target: (N,) mean opinion scores.
        dataset: N names.
        against: (N, K') scores whose μ_j and σ_j the opponents have; `scores` itself if omitted.
        eps: ε > 0.
        bounds: scores beyond count as these, those of `against` too; ±1e150 if omitted.
        among: videos of a part, which stand next to one another in the batch; what is left over joins the
            parts before. Whole data sets if omitted.

    >>> mean_fidelity(np.array([[4.0], [2.0], [3.0]]), np.array([4.0, 2.0, 9.0]), ["a", "a", "b"]).round(3)
    array([[1.001],
           [1.001],
           [0.   ]])
    """
    low, high = bounds or (-LARGEST, LARGEST)
    scores = np.clip(scores, low, high)
    own = Videos.of(scores, target)
    clean = own if against is None else Videos.of(np.clip(against, low, high), target)
    names = np.asarray(dataset)
    rewards = np.zeros_like(scores)
    blocks: list[tuple[IndexArray, Videos]] = []
    for name in np.unique(names):
        same = np.flatnonzero(names == name)
        for part in np.array_split(same, max(1, len(same) // (among or len(same)))):
            places = part[~np.isnan(own.mean[part])]
            opponents = clean.take(part[~np.isnan(clean.mean[part])])
            size = max(1, BLOCK_SIZE // max(1, scores.shape[1] * len(opponents.index)))
            blocks += [(places[start : start + size], opponents) for start in range(0, len(places), size)]
    sizes = [len(i) * scores.shape[1] * len(others.index) for i, others in blocks]
    largest = max(sizes, default=0)
    num_threads = NUM_THREADS if sum(sizes) >= MIN_THREADED else 1

    def fill(thread: int) -> None:
        workspace = Workspace(largest)
        for i, others in blocks[thread::num_threads]:
            rewards[i] = fidelity_of(scores[i], own.take(i), others, eps=eps, workspace=workspace)

    if num_threads == 1:
        fill(0)
    else:
        with ThreadPoolExecutor(num_threads) as pool:  # NumPy lets go of the interpreter lock in these loops
            list(pool.map(fill, range(num_threads)))
    return np.where(np.isnan(scores), 0.0, rewards)
