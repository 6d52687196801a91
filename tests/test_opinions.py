"""Opinions against published examples and slow references."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from vqathinker.opinions import (
    ScoreMapping,
    draw_pairs,
    fit_mapping,
    level_index,
    level_probabilities,
    preference,
)
from vqathinker.opinions.annotators.table import TableAnnotator
from vqathinker.opinions.levels import adjustment, raw_masses

VITAL_VALUES = (4.5, 3.5, 2.5, 1.5, 0.5)


def test_the_published_example_of_vital() -> None:
    """Six scores of mean 66.743 and standard deviation 3.831; on VITAL's axis 3.5795 and .4043."""
    centres = np.array(VITAL_VALUES)
    raw = raw_masses(3.5795, 0.4043, centres)
    np.testing.assert_allclose(raw[:3], [0.1489, 0.7749, 0.0759], atol=2e-4)
    np.testing.assert_allclose(raw[3:], [4.7e-5, 8.9e-11], rtol=0.05)
    alpha, beta = adjustment(raw, 3.5795, centres)
    assert alpha == pytest.approx(1.00626, abs=2e-5)
    assert beta == pytest.approx(-0.00121, abs=1e-5)
    stored = np.array([0.1487, 0.7786, 0.0751, 0, 0])
    np.testing.assert_allclose(np.maximum(alpha * raw + beta, 0), stored, atol=2e-4)
    found = level_probabilities(3.5795, 0.4043, values=VITAL_VALUES)
    np.testing.assert_allclose(found, stored / stored.sum(), atol=2e-4)


def test_the_raw_masses_are_integrals_of_the_normal_density() -> None:
    centres = np.array([5.0, 4, 3, 2, 1])
    slow = [quad(norm(2.7, 0.8).pdf, value - 0.5, value + 0.5)[0] for value in centres]
    np.testing.assert_allclose(raw_masses(2.7, 0.8, centres), slow, rtol=1e-9)
    density = [np.exp(-(((x - 2.7) / 0.8) ** 2) / 2) / (0.8 * np.sqrt(2 * np.pi)) for x in centres]
    np.testing.assert_allclose(raw_masses(2.7, 0.8, centres, "density"), density, rtol=1e-9)


@given(mean=st.floats(1, 5), std=st.floats(0, 3), mass=st.sampled_from(["interval", "density"]))
def test_a_distribution_with_the_mean(mean: float, std: float, mass: str) -> None:
    found = level_probabilities(mean, std, mass=mass)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1)
    assert found @ [5, 4, 3, 2, 1] == pytest.approx(mean, abs=0.15)


@pytest.mark.parametrize("mass", ["interval", "density"])
def test_a_mean_in_the_middle_keeps_its_shape(mass: str) -> None:
    """DeQA's formula divides 0 by 0 there and gives a fifth to each level."""
    found = level_probabilities(3.0, 0.8, mass=mass)
    raw = raw_masses(3.0, 0.8, np.array([5.0, 4, 3, 2, 1]), mass)
    np.testing.assert_allclose(found, raw / raw.sum())
    np.testing.assert_allclose(level_probabilities(3.0001, 0.8, mass=mass), found, atol=0.02)


@pytest.mark.parametrize("std", [None, float("nan"), 0.0, 0.199])
def test_two_levels_share_a_mean_whose_spread_is_small_or_unknown(std: float | None) -> None:
    np.testing.assert_allclose(level_probabilities(2.3, std), [0, 0, 0.3, 0.7, 0])
    np.testing.assert_allclose(level_probabilities(5.0, std), [1, 0, 0, 0, 0])


def test_two_levels_share_a_mean_that_is_missed() -> None:
    """At the end of the scale a wide distribution cannot keep its mean."""
    np.testing.assert_allclose(level_probabilities(4.9, 2.0), [0.9, 0.1, 0, 0, 0])


def test_another_axis_gives_the_same_distribution() -> None:
    on_hundred = level_probabilities(68.0, 12.0, values=(90, 70, 50, 30, 10))
    np.testing.assert_allclose(on_hundred, level_probabilities(3.9, 0.6))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mean": float("nan"), "std": 1.0}, "mean of the opinions is nan"),
        ({"mean": 3.0, "std": -1.0}, "standard deviation"),
        ({"mean": 3.0, "std": 1.0, "mass": "cdf"}, "'cdf'.*interval, density"),
        ({"mean": 3.0, "std": 1.0, "values": (1, 2, 3, 4, 5)}, "from the best"),
    ],
)
def test_what_cannot_be(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        level_probabilities(**arguments)


def test_levels_are_equal_intervals() -> None:
    assert [level_index(mean, 0, 100) for mean in (0, 19.9, 20, 59.9, 60, 80, 100)] == [4, 4, 3, 2, 1, 0, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mapping_recovers_its_curve(sign: int) -> None:
    scores = sign * np.linspace(-2, 3, 60)
    true = ScoreMapping(sign * 1.7, -0.4, 70, 12)
    found = fit_mapping(scores, true.apply(scores))
    np.testing.assert_allclose(
        found.apply([sign * 0.3, sign * 2.2]), true.apply([sign * 0.3, sign * 2.2]), atol=0.05
    )
    assert ScoreMapping.from_dict(found.to_dict()) == found


def test_a_mapping_needs_labels_that_vary() -> None:
    with pytest.raises(ValueError, match="4 media"):
        fit_mapping([1, 2, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="vary"):
        fit_mapping([1, 1, 1, 1, 1], [1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match="gamma_4"):
        ScoreMapping.from_dict({"gamma_1": 1, "gamma_2": 1, "gamma_3": 1})


def test_preference_by_the_margin() -> None:
    assert preference(60, 3, 54, 4) == 1
    assert preference(60, 3, 55, 4) == 0.5
    assert preference(54, 3, 60, 4) == 0
    assert preference(1, 0, 1, 0) == 0.5
    assert (preference(90, np.nan, 10, 1), preference(10, None, 10, np.nan)) == (1, 0.5)


def opinions(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 100, number), rng.uniform(2, 9, number)


def test_pairs_come_in_their_ratio() -> None:
    means, stds = opinions(900)
    groups = [("one", "video")] * 500 + [("one", "image")] * 250 + [("other", "video")] * 150
    pairs = draw_pairs(means, stds, groups, 10_000, np.random.default_rng(1))
    counts = Counter(pair.preference for pair in pairs)
    assert len(pairs) == pytest.approx(10_000, abs=3)
    assert [counts[kind] / len(pairs) for kind in (1, 0, 0.5)] == pytest.approx([0.4, 0.4, 0.2], abs=0.01)
    for pair in pairs:
        one, other = pair.first, pair.second
        assert groups[one] == groups[other]
        assert pair.preference == preference(means[one], stds[one], means[other], stds[other])
    assert len({frozenset((pair.first, pair.second)) for pair in pairs}) == len(pairs)
    by_group = Counter(groups[pair.first] for pair in pairs)
    assert by_group["one", "video"] / len(pairs) == pytest.approx(500 / 900, abs=0.01)


def test_a_rare_kind_takes_the_others_down() -> None:
    means = np.arange(40.0) * 10  # no two are alike but for the last ones
    stds = np.full(40, 1.0)
    means[-2:] = 1000
    pairs = draw_pairs(means, stds, ["set"] * 40, 100, np.random.default_rng(0))
    counts = Counter(pair.preference for pair in pairs)
    assert counts == {1: 2, 0: 2, 0.5: 1}


def test_one_medium_makes_no_pair() -> None:
    assert draw_pairs([1.0, 5.0], [0.1, 0.1], ["one", "other"], 10, np.random.default_rng(0)) == []


def test_pairs_repeat() -> None:
    means, stds = opinions(60)
    one, other = (draw_pairs(means, stds, [0] * 60, 50, np.random.default_rng(5)) for _ in range(2))
    assert one == other


def test_many_pairs_and_many_small_groups() -> None:
    means, stds = opinions(60_000)
    assert len(draw_pairs(means, stds, [0] * 60_000, 300_000, np.random.default_rng(0))) == 300_000
    means, stds = np.arange(10.0) * 50, np.ones(10)
    pairs = draw_pairs(means, stds, [n // 2 for n in range(10)], 4, np.random.default_rng(0), strict=False)
    # no two are alike, and better and worse are shared out over all groups
    assert Counter(pair.preference for pair in pairs) == {1: 2, 0: 1}


def test_pairs_of_unknown_spreads_are_decided() -> None:
    mean, _ = opinions(50)
    pairs = draw_pairs(mean, np.full(50, np.nan), ["a"] * 50, 100, np.random.default_rng(0), strict=False)
    assert {pair.preference for pair in pairs} == {0.0, 1.0}


def test_a_table_gives_a_medium_its_own_score_alone(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("name,mos\na/x.mp4,80\nb/1.mp4,10\nc/1.mp4,20\ny.mp4,30\n")
    of = TableAnnotator(str(tmp_path / "one.csv"), folder="media")
    names = ["a/x.mp4", "a/x.mov", "b/x.mp4", "b/1.mp4", "d/b/1.mkv", "1.mp4", "d/y.mp4", "z.mp4"]
    found = of([f"media/{name}" for name in names])
    np.testing.assert_equal(found, [80, 80, np.nan, 10, 10, np.nan, 30, np.nan])
    (tmp_path / "lsvq.csv").write_text("name,mos\nyfcc-batch1/722,3\nyfcc-batch2/722,4\n")
    of = TableAnnotator(str(tmp_path / "lsvq.csv"), folder="media")
    assert of(["media/yfcc-batch2/722.mp4", "media/yfcc-batch1/722.mp4"]) == [4, 3]
