"""Losses of supervised tuning against formulas of other libraries, and their sum over a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from scipy.stats import norm

from vqathinker.scale import LEVEL_VALUES
from vqathinker.training.packing import IGNORE
from vqathinker.training.sft.losses import focal, level_divergence, pair_divergence, pair_fidelity
from vqathinker.training.sft.objective import LossConfig, Targets, objective

FIVE = st.lists(st.floats(-4, 4), min_size=5, max_size=5)
LEVEL_IDS = [3, 7, 1, 9, 4]


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.floats(0, 3), st.floats(0.1, 2))
def test_focal_weighs_what_is_surprising(logits: list[float], beta: float, alpha: float) -> None:
    p = softmax(np.array(logits, np.float64))[2]
    loss = focal(torch.tensor([logits], dtype=torch.float64), torch.tensor([2]), alpha, beta)
    assert float(loss) == pytest.approx(-alpha * (1 - p) ** beta * math.log(p), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
def test_a_sure_token_has_a_gradient(beta: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 0.0]], requires_grad=True)
    focal(logits, torch.tensor([0, 0]), beta=beta).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    doubt = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)  # of the second: p by hand
    (-((1 - doubt) ** beta) * doubt.log() / 2).backward()
    assert doubt.grad is not None
    assert float(logits.grad[1, 0]) == pytest.approx(float(doubt.grad) * 0.25, rel=1e-4)


def test_focal_without_focus_is_cross_entropy() -> None:
    logits, labels = torch.randn(6, 11), torch.randint(11, (6,))
    assert torch.isclose(focal(logits, labels, beta=0.0), torch.nn.functional.cross_entropy(logits, labels))


@given(FIVE, FIVE)
def test_level_divergence(logits: list[float], other: list[float]) -> None:
    target = softmax(np.array(other))
    expected = rel_entr(target, softmax(np.array(logits))).sum()
    given_target = torch.from_numpy(target)[None]
    loss = level_divergence(torch.tensor([logits], dtype=torch.float64), given_target)
    assert float(loss) == pytest.approx(expected, abs=1e-9)


def test_a_level_without_a_chance_costs_nothing() -> None:
    logits = torch.zeros(1, 5, requires_grad=True)
    level_divergence(logits, torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0]])).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("preference", [1.0, 0.5, 0.0])
@given(first=FIVE, second=FIVE)
def test_pairs(preference: float, first: list[float], second: list[float]) -> None:
    values = np.array([5.0, 4, 3, 2, 1])
    difference = softmax(first) @ values - softmax(second) @ values
    better = norm.cdf(difference / math.sqrt(2))
    wanted, found = np.array([preference, 1 - preference]), np.array([better, 1 - better])
    rows = [torch.tensor([logits], dtype=torch.float64) for logits in (first, second)]
    given_preference = torch.tensor([preference])
    divergence = rel_entr(wanted, found).sum()
    assert float(pair_divergence(*rows, given_preference)) == pytest.approx(divergence, abs=1e-7)
    fidelity = 1 - np.sqrt(wanted * found).sum()
    assert float(pair_fidelity(*rows, given_preference)) == pytest.approx(fidelity, abs=3e-4)


def test_levels_from_0_to_1_cannot_tell_a_pair_apart() -> None:
    """The paper leaves the axis open: between the best and the worst level P would be .76 at most."""
    best, worst = torch.tensor([[50.0, 0, 0, 0, 0]]), torch.tensor([[0.0, 0, 0, 0, 50]])
    wanted = torch.ones(1)
    small = pair_divergence(best, worst, wanted, (1.0, 0.75, 0.5, 0.25, 0.0))
    assert float(torch.exp(-small)) == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=1e-5)
    assert float(torch.exp(-pair_divergence(best, worst, wanted))) > 0.99


def targets(rows: Sequence[dict[str, Any]], length: int = 8) -> Targets:
    """Of rows that say at which places which ids are learned as text, and which level."""
    labels = torch.full((len(rows), length), IGNORE)
    for number, row in enumerate(rows):
        for place, label in row.get("text", {}).items():
            labels[number, place] = label
    return Targets(
        labels,
        torch.tensor([row.get("place", -1) for row in rows]),
        torch.tensor([row.get("levels", [math.nan] * 5) for row in rows]),
        torch.tensor([row.get("preference", math.nan) for row in rows]),
    )


SHARES = [0.1, 0.6, 0.2, 0.1, 0.0]
TEXT = {"text": {3: 5, 4: 2, 5: 0}}
LEVEL = {"text": {2: 8, 3: 6}, "place": 4, "levels": SHARES}
PAIR = [{"text": {3: 8}, "place": 4, "preference": 1.0}, {"place": 6, "levels": SHARES}]


def surprise(logits: torch.Tensor, row: int, place: int, label: int) -> float:
    """-log p of an id at a place, which the place before it predicts."""
    return float(-logits[row, place - 1].log_softmax(-1)[label])


def of_levels(logits: torch.Tensor, row: int, place: int, *, over_all: bool) -> float:
    """The divergence from the distribution at a place, by NumPy."""
    found = logits[row, place - 1].double().numpy()
    chances = softmax(found)[LEVEL_IDS] if over_all else softmax(found[LEVEL_IDS])
    return float(rel_entr(SHARES, chances).sum())


@pytest.mark.parametrize("over", ["words", "vocabulary"])
@pytest.mark.parametrize("text", ["cross_entropy", "focal"])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_batch_is_the_mean_of_its_samples(over: str, text: str, weight: float) -> None:
    torch.manual_seed(0)
    told = targets([TEXT, LEVEL, *PAIR])
    logits = torch.randn(4, 8, 12)
    config = LossConfig(text_loss=text, level_loss=over, pair_level_weight=weight)  # type: ignore[arg-type]
    positions = told.positions()
    assert positions.tolist() == [1, 2, 3, 4, 5]
    losses = objective(logits[:, positions], positions, told, config, LEVEL_IDS)
    said = [surprise(logits, 0, place, label) for place, label in TEXT["text"].items()]
    if text == "focal":
        said = [(1 - math.exp(-s)) ** 2 * s for s in said]
    before = [surprise(logits, 1, 2, 8), surprise(logits, 1, 3, 6)]
    level = (0.01 * sum(before) + of_levels(logits, 1, 4, over_all=over == "vocabulary")) / 3
    first, second = (logits[row, place - 1][LEVEL_IDS] for row, place in ((2, 4), (3, 6)))
    pair = float(pair_divergence(first[None], second[None], torch.ones(1)))
    items = 0.01 * surprise(logits, 2, 3, 8) / 2 + of_levels(logits, 3, 6, over_all=over == "vocabulary")
    expected = (sum(said) / 3 + level + pair + weight * items) / 3
    assert float(losses.total) == pytest.approx(expected, rel=1e-5)
    assert {name: number for name, (_, number) in losses.parts.items()} == {
        "text": 1,
        "levels": 1,
        "pairs": 1,
    }
    alone = [objective(logits[:1, positions], positions, targets([TEXT]), config, LEVEL_IDS)]
    assert float(alone[0].total) == pytest.approx(sum(said) / 3, rel=1e-5)


def test_a_batch_of_nothing_costs_nothing_and_has_a_gradient() -> None:
    told = targets([{}])
    positions = told.positions()
    logits = torch.randn(1, 8, 12, requires_grad=True)
    losses = objective(logits[:, positions], positions, told, LossConfig(level_loss="words"), LEVEL_IDS)
    losses.total.backward()
    assert losses.total.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("values", [[1.0, 0.0], [1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 4.0, 2.0, 1.0]])
def test_five_values_that_fall(values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected five that fall"):
        LossConfig(level_values=values)
    assert LossConfig().level_values == list(LEVEL_VALUES)
