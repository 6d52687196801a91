"""Reward for being better on a video than on its temporally perturbed twin."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.ranking import RankingReward
from rewards.regression import RegressionReward
from vqathinker import plugins
from vqathinker.samples import SCORE
from vqathinker.types import FloatArray, RolloutBatch

TERMS = {"regression": RegressionReward, "ranking": RankingReward}
GATES = ("response", "group")
ROUNDING = 1e-9  # means this close are equal, so that the order of summation decides nothing


def wins(clean: FloatArray, twin: FloatArray) -> NDArray[np.bool_]:
    """Return mean_k clean ≥ mean_k twin (N, 1) for rewards (N, K) of responses and (N, K') of their twins.

    >>> wins(np.array([[0.8, 0.2], [0.1, 0.1]]), np.array([[0.5], [0.2]])).tolist()
    [[True], [False]]
    """
    return np.asarray(clean.mean(axis=1, keepdims=True) >= twin.mean(axis=1, keepdims=True) - ROUNDING)


def bonus(clean: FloatArray, twin: FloatArray, *, delta: float, tau: float, gate: str) -> FloatArray:
    """Return δ·[mean_k clean ≥ mean_k twin]·gate for one term.

    Args:
        clean: (N, K) rewards of the responses.
        twin: (N, K') rewards of the perturbed responses.
        delta: δ.
        tau: τ.
        gate: "response" asks for clean[i, k] > τ, "group" for mean_k clean[i] > τ.

    >>> bonus(np.array([[0.8, 0.2]]), np.array([[0.1, 0.9]]), delta=0.3, tau=0.5, gate="response")
    array([[0.3, 0. ]])
    """
    gated = clean if gate == "response" else np.broadcast_to(clean.mean(axis=1, keepdims=True), clean.shape)
    return np.where(wins(clean, twin) & (gated > tau), delta, 0.0)


class TemporalConsistencyReward:
    """Σ over terms t of δ·[mean_k r_i^t ≥ mean_k r_i,twin^t]·gate (VQAThinker, arXiv 2508.06051, Eq. 8-9).

    The twins' rewards are only compared, never trained on. A term with a method `on_twins(batch)` (the
    ranking) judges twins itself; any other is called with `batch.perturbed`. gate="response" also asks that
    the response's own r > τ. gate="group" is the paper's text: the same bonus for all K responses, which the
    group-relative advantage subtracts again, so it changes no gradient; it is there for comparison.
    """

    tasks = (SCORE,)
    needs_perturbed = True

    def __init__(
        self,
        delta: float = 0.3,
        tau: float = 0.5,
        gate: str = "response",
        rewards: Sequence[Any] | None = None,
    ) -> None:
        """Set δ ≥ 0, τ ≥ 0, the gate and the terms.

        Args:
            delta: bonus per term.
            tau: a reward above τ passes the gate.
            gate: "response" or "group".
            rewards: the terms, by default regression and ranking with their own defaults. An item is a
                reward, a name or a mapping of a recipe, e.g. `[{name: regression, alpha: 1.0, sigma: 0.3},
                ranking]`.

        Raises:
            ValueError: for a negative or infinite δ or τ, an unknown gate, or terms that cannot be built.
        """
        if not (0 <= delta < math.inf and 0 <= tau < math.inf):
            raise ValueError(f"delta and tau must be finite and not negative, got {delta} and {tau}")
        if gate not in GATES:
            raise ValueError(f"gate must be one of {GATES}, got {gate!r}")
        items = list(TERMS) if rewards is None else rewards
        if isinstance(items, str) or not isinstance(items, Sequence) or not items:
            raise ValueError(f"rewards must be a list with at least one reward, got {rewards!r}")
        self.delta = delta
        self.tau = tau
        self.gate = gate
        self.rewards: list[Any] = [plugins.create(item, TERMS, group="vqathinker.rewards") for item in items]
        self.min_videos: int = max(getattr(reward, "min_videos", 1) for reward in self.rewards)

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) bonuses.

        Raises:
            ValueError: if the batch has no perturbed responses.
        """
        total = np.zeros(batch.scores.shape)
        for clean, twin in self._compared(batch):
            total += bonus(clean, twin, delta=self.delta, tau=self.tau, gate=self.gate)
        return total

    def metrics(self, batch: RolloutBatch) -> dict[str, float]:
        """Return `win_rate`, the share of (video with a twin, term) that the responses win or tie.

        Raises:
            ValueError: if the batch has no perturbed responses.
        """
        has_won = [wins(clean, twin)[batch.has_twin] for clean, twin in self._compared(batch)]
        return {"win_rate": float(np.mean(has_won))}

    def _compared(self, batch: RolloutBatch) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield the rewards of the responses and of their twins, term by term."""
        if batch.perturbed is None:
            raise ValueError(
                "the temporal reward needs responses to perturbed videos: name a perturbation in the recipe, "
                "give RolloutBatch.from_texts(perturbed=...), or leave this reward out"
            )
        for reward in self.rewards:
            twin = reward.on_twins(batch) if hasattr(reward, "on_twins") else reward(batch.perturbed)
            yield reward(batch), twin
