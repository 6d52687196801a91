"""Rewards against a slow reference: double loops over videos and responses, exact fractions, no arrays."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from chat_server import ChatServer
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from rewards import REWARDS, as_trl, evaluate, fidelity, from_trl, load, pairwise
from rewards.coarse_regression import CoarseRegressionReward
from rewards.format import FormatReward
from rewards.length import LengthReward
from rewards.ranking import RankingReward
from rewards.regression import RegressionReward
from rewards.temporal import TemporalConsistencyReward
from rewards.threshold import ThresholdReward
from rewards.trl import FromTrl, reward_rows
from vqathinker import answers
from vqathinker.plugins import build
from vqathinker.records import Record
from vqathinker.samples import SCORE
from vqathinker.training.grpo.batch import as_reward
from vqathinker.types import FloatArray, Reward, RolloutBatch

EPS = 1e-6
NAN = math.nan
SCORED = [name for name, reward in REWARDS.items() if SCORE in reward.tasks]


def text_of(score: float) -> str:
    return "no answer" if math.isnan(score) else f"<think>r</think><answer>{score!r}</answer>"


def make(
    scores: ArrayLike, target: ArrayLike, dataset: Sequence[str] | None = None, twin: ArrayLike | None = None
) -> RolloutBatch:
    scores = np.asarray(scores, dtype=np.float64)
    target = np.asarray(target, dtype=np.float64)
    names = [f"v{i}" for i in range(len(target))]
    return RolloutBatch(
        texts=[[text_of(score) for score in row] for row in scores.tolist()],
        scores=scores,
        target=target,
        video_id=names,
        dataset=list(dataset) if dataset is not None else ["d"] * len(names),
        perturbed=None if twin is None else make(twin, target, dataset),
    )


# --- the slow reference


WITHOUT_BOUNDS = (-1e150, 1e150)  # nothing beyond is told apart


def slow_statistics(row: Sequence[float], bounds: tuple[float, float]) -> tuple[float, float] | None:
    valid = [Fraction(clip(score, bounds)) for score in row if not math.isnan(score)]
    if not valid:
        return None
    mean = sum(valid) / len(valid)
    squares = sum((score - mean) ** 2 for score in valid)
    variance = squares / (len(valid) - 1) if len(valid) > 1 else Fraction(0)
    return float(mean), slow_root(variance)


def clip(score: float, bounds: tuple[float, float]) -> float:
    return max(bounds[0], min(bounds[1], score))


def slow_root(value: Fraction) -> float:
    exponent = max(0, value.numerator.bit_length() - value.denominator.bit_length()) // 2
    return math.ldexp(math.sqrt(value / Fraction(4) ** exponent), exponent)


def slow_probability(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def slow_ranking(
    batch: RolloutBatch, twin: bool = False, bounds: tuple[float, float] = (0.0, 6.0)
) -> list[list[float]]:
    judged = (batch.perturbed if twin and batch.perturbed else batch).scores.tolist()
    clean = [slow_statistics(row, bounds) for row in batch.scores.tolist()]
    rewards = []
    for i, row in enumerate(judged):
        own = slow_statistics(row, bounds)
        reward_row = []
        for score in row:
            terms = []
            for j, opponent in enumerate(clean):
                if j == i or opponent is None or batch.dataset[i] != batch.dataset[j]:
                    continue
                if own is None or math.isnan(score):
                    continue
                width = math.hypot(own[1], opponent[1], math.sqrt(EPS))
                p = slow_probability((clip(score, bounds) - opponent[0]) / width)
                h = 0.5
                if batch.target[i] != batch.target[j]:
                    h = 1.0 if batch.target[i] > batch.target[j] else 0.0
                terms.append(math.sqrt(p * h + EPS) + math.sqrt((1 - p) * (1 - h) + EPS))
            reward_row.append(math.fsum(terms) / len(terms) if terms else 0.0)
        rewards.append(reward_row)
    return rewards


def slow_regression(batch: RolloutBatch) -> list[list[float]]:
    def one(score: float, target: float) -> float:
        if math.isnan(score) or abs(score - target) > 100:
            return 0.0
        return 0.8 * math.exp(-((score - target) ** 2) / (2 * 0.5**2))

    return [
        [one(s, g) for s in row] for row, g in zip(batch.scores.tolist(), batch.target.tolist(), strict=True)
    ]


def slow_temporal(batch: RolloutBatch, gate: str) -> list[list[float]]:
    assert batch.perturbed is not None
    total = [[0.0] * batch.num_responses for _ in range(batch.num_videos)]
    pairs = [
        (slow_regression(batch), slow_regression(batch.perturbed)),
        (slow_ranking(batch), slow_ranking(batch, twin=True)),
    ]
    for clean, twin in pairs:
        for i in range(batch.num_videos):
            mean = math.fsum(clean[i]) / len(clean[i])
            twin_mean = math.fsum(twin[i]) / len(twin[i])
            for k, value in enumerate(clean[i]):
                if mean >= twin_mean - 1e-9 and (value if gate == "response" else mean) > 0.5:
                    total[i][k] += 0.3
    return total


# --- random batches

ordinary = st.integers(50, 600).map(lambda cents: cents / 100)
tied = st.sampled_from([2.0, 3.0, NAN])
huge = st.sampled_from([1e300, -1e300, 1e200, 5e-324, -5e-324, 1e-310, 0.0, 3.0, NAN])


@st.composite
def batches(draw: st.DrawFn, twins: bool = False) -> RolloutBatch:
    num_videos = draw(st.integers(1, 7))
    num_responses = draw(st.integers(1, 5))
    score = draw(st.sampled_from([ordinary, st.one_of(ordinary, st.just(NAN)), tied, huge, st.just(NAN)]))
    row = st.lists(score, min_size=num_responses, max_size=num_responses)
    table = st.lists(row, min_size=num_videos, max_size=num_videos)
    target = st.lists(draw(st.sampled_from([ordinary, st.sampled_from([2.0, 3.0])])), min_size=num_videos)
    dataset = st.lists(st.sampled_from(["a", "b"]), min_size=num_videos, max_size=num_videos)
    return make(draw(table), draw(target)[:num_videos], draw(dataset), draw(table) if twins else None)


def permuted(batch: RolloutBatch, videos: Sequence[int], responses: Sequence[int]) -> RolloutBatch:
    twin = None if batch.perturbed is None else batch.perturbed.scores[videos][:, responses]
    return make(
        batch.scores[videos][:, responses], batch.target[videos], [batch.dataset[i] for i in videos], twin
    )


@given(batches())
def test_regression_equals_the_reference(batch: RolloutBatch) -> None:
    np.testing.assert_allclose(RegressionReward()(batch), slow_regression(batch), rtol=1e-12, atol=1e-300)


@settings(max_examples=150)
@given(batches(twins=True), st.sampled_from([(0.0, 6.0), (1.0, 5.0), None]))
def test_ranking_equals_the_reference_clean_and_twin(
    batch: RolloutBatch, bounds: tuple[float, float] | None
) -> None:
    reward, limits = RankingReward(bounds=bounds), bounds or WITHOUT_BOUNDS
    for found, twin in ((reward(batch), False), (reward.on_twins(batch), True)):
        np.testing.assert_allclose(found, slow_ranking(batch, twin, limits), rtol=0, atol=2e-9)


@given(batches(twins=True), st.integers(2, 3))
def test_a_ranking_among_some_is_that_of_smaller_data_sets(batch: RolloutBatch, among: int) -> None:
    names = list(batch.dataset)
    for name in set(names):
        places = [i for i, other in enumerate(batch.dataset) if other == name]
        num_parts = max(1, len(places) // among)
        sizes = [len(places) // num_parts + (part < len(places) % num_parts) for part in range(num_parts)]
        parts = [part for part, size in enumerate(sizes) for _ in range(size)]
        for i, part in zip(places, parts, strict=True):
            names[i] = f"{name}, part {part}"
    twins = None if batch.perturbed is None else batch.perturbed.scores
    smaller = make(batch.scores, batch.target, names, twins)
    reward = RankingReward(among=among)
    np.testing.assert_allclose(reward(batch), slow_ranking(smaller), rtol=0, atol=2e-9)
    np.testing.assert_allclose(reward.on_twins(batch), slow_ranking(smaller, twin=True), rtol=0, atol=2e-9)


def test_one_answer_far_off_the_scale_costs_its_group_mates_what_a_six_costs() -> None:
    targets = [4.0, 3.0, 2.0]
    groups = [[4.0, 4.0], [3.1, 2.9], [2.0, 2.2]]
    beyond, six = [[4.0, 2444.0], *groups[1:]], [[4.0, 6.0], *groups[1:]]
    batch, clipped = (make(scores, targets, twin=[*scores[1:], scores[0]]) for scores in (beyond, six))
    assert batch.scores[0, 1] == 2444
    for reward in (RankingReward(), TemporalConsistencyReward(rewards=["ranking"])):
        np.testing.assert_allclose(reward(batch), reward(clipped), rtol=0, atol=0)
    np.testing.assert_allclose(RankingReward().on_twins(batch), RankingReward().on_twins(clipped))
    # by hand: μ and σ² of (4, 6) are 5 and 2, of the opponents 3 and 0.02, 2.1 and 0.02
    right = [
        math.sqrt(slow_probability((4 - mean) / math.sqrt(2 + 0.02 + EPS)) + EPS) + 1e-3 for mean in (3, 2.1)
    ]
    assert RankingReward()(batch)[0, 0] == pytest.approx(sum(right) / 2)
    # as the papers write it: σ = 1725 makes the right answer a toss-up against everyone
    as_written = RankingReward(bounds=None)(batch)
    np.testing.assert_allclose(as_written, slow_ranking(batch, bounds=WITHOUT_BOUNDS), atol=2e-9)
    assert as_written[0, 0] == pytest.approx(math.sqrt(0.5) + 1e-3, abs=1e-3)
    # the answer itself still earns nothing for being near
    assert RegressionReward()(batch)[0].tolist() == pytest.approx([0.8, 0.0])


def test_bounds_are_written_in_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "rewards:\n- {name: ranking, bounds: [0.5, 5.5]}\n- {name: ranking, bounds: null, as: papers}\n"
        "- {name: temporal, rewards: [{name: ranking, bounds: null}, regression]}\n"
    )
    items = yaml.safe_load(recipe.read_text())["rewards"]
    ranking, papers, temporal = [plugin.function for plugin in build(items, REWARDS, group="rewards")]
    assert ranking.bounds == (0.5, 5.5)  # type: ignore[attr-defined]
    assert papers.bounds is None  # type: ignore[attr-defined]
    assert temporal.rewards[0].bounds is None  # type: ignore[attr-defined]
    assert load("ranking").bounds == (0.0, 6.0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("truth", [0.5, 1.0])
@pytest.mark.parametrize("eps", [1e-12, 1e-6, 1e-2, 10.0])
def test_the_table_is_the_fidelity(truth: float, eps: float) -> None:
    inner = np.linspace(-12.0, 12.0, 1_000_003)
    z = np.concatenate([inner, [-1e9, -50.0, -fidelity.REACH, fidelity.REACH, 50.0, 1e9]])[:, None]
    one, none = np.ones((len(z), 1)), np.zeros((len(z), 1))
    workspace = fidelity.Workspace(len(z))
    table = fidelity.tabulate(truth, eps)
    exact = [
        math.sqrt(slow_probability(x) * truth + eps) + math.sqrt(slow_probability(-x) * (1 - truth) + eps)
        for x in z[::97, 0].tolist()
    ]
    np.testing.assert_allclose(fidelity.exact(z[::97, 0], truth, eps=eps), exact, rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        table.total(none, z, one, workspace), fidelity.exact(z, truth, eps=eps), rtol=0, atol=2e-9
    )
    np.testing.assert_allclose(table.total(none, z, none, workspace), 0.0, atol=1e-14)


@pytest.mark.parametrize("gate", ["response", "group"])
@settings(max_examples=80)
@given(batch=batches(twins=True))
def test_temporal_equals_the_reference(gate: str, batch: RolloutBatch) -> None:
    rewards = TemporalConsistencyReward(gate=gate)(batch)
    np.testing.assert_allclose(rewards, slow_temporal(batch, gate), atol=1e-12)


@pytest.mark.parametrize("block_size", [1, 50])
def test_blocks_and_threads_change_nothing(block_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    batch = make(rng.uniform(1, 5, (60, 3)), rng.integers(1, 6, 60), ["a", "b", "c"] * 20)
    whole = RankingReward()(batch)
    monkeypatch.setattr(pairwise, "BLOCK_SIZE", block_size)
    monkeypatch.setattr(pairwise, "MIN_THREADED", 2)
    monkeypatch.setattr(pairwise, "NUM_THREADS", 3)
    np.testing.assert_allclose(RankingReward()(batch), whole, atol=1e-14)


@pytest.mark.parametrize("name", list(REWARDS))
@settings(max_examples=25)
@given(batch=batches(twins=True), data=st.data())
def test_every_reward_is_finite_and_follows_permutations(
    name: str, batch: RolloutBatch, data: st.DataObject
) -> None:
    rewards = evaluate(load(name), batch, name)
    assert rewards.dtype == np.float64
    videos = data.draw(st.permutations(range(batch.num_videos)))
    responses = data.draw(st.permutations(range(batch.num_responses)))
    shuffled = evaluate(load(name), permuted(batch, videos, responses), name)
    np.testing.assert_allclose(shuffled, rewards[videos][:, responses], atol=1e-9)
    if name in SCORED and name != "temporal":
        assert (rewards[np.isnan(batch.scores)] == 0).all()


@pytest.mark.parametrize("name", list(REWARDS))
def test_every_reward_pickles(name: str) -> None:
    reward = load(name)
    batch = make([[4.0, 3.5], [2.0, NAN]], [4.2, 2.1], twin=[[3.0, 3.0], [2.0, 2.0]])
    assert isinstance(reward, Reward)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reward))(batch), reward(batch))


# --- hand-computed values and edge cases


def test_the_largest_numbers_that_can_be_written_stay_finite() -> None:
    batch = make(
        [[1.7e308, -1.7e308], [1.7e308, 1.7e308], [3.0, 3.1]], [4.0, 3.0, 2.0], twin=[[-1.7e308] * 2] * 3
    )
    for name in REWARDS:
        evaluate(load(name), batch, name)


def test_regression_by_hand() -> None:
    rewards = RegressionReward()(make([[3.0, 3.5, 4.0, NAN]], [3.0]))
    np.testing.assert_allclose(rewards, [[0.8, 0.8 * math.exp(-0.5), 0.8 * math.exp(-2.0), 0.0]])


def test_ranking_by_hand() -> None:
    # σ = √2/2 for the first video, 0 for the second; z = (s−2)/√(1/2+ε)
    rewards = RankingReward()(make([[3.0, 2.0], [2.0, 2.0]], [4.0, 1.0]))
    p = slow_probability(1.0 / math.sqrt(0.5 + EPS))
    assert rewards[0, 0] == pytest.approx(math.sqrt(p + EPS) + 1e-3)
    assert rewards[0, 1] == pytest.approx(math.sqrt(0.5 + EPS) + 1e-3)
    q = slow_probability(-0.5 / math.sqrt(0.5 + EPS))
    assert rewards[1, 0] == pytest.approx(math.sqrt(1 - q + EPS) + 1e-3)


def test_ranking_of_equal_targets_is_best_for_equal_scores() -> None:
    batch = make([[3.0], [3.0]], [2.5, 2.5])
    np.testing.assert_allclose(RankingReward()(batch), 2 * math.sqrt(0.25 + EPS))
    batch = make([[4.0], [1.0]], [2.5, 2.5])
    np.testing.assert_allclose(RankingReward()(batch), math.sqrt(0.5 + EPS) + 1e-3)


def test_one_video_or_one_per_dataset_has_no_opponent() -> None:
    assert (RankingReward()(make([[3.0, 4.0]], [3.0])) == 0).all()
    assert (RankingReward()(make([[3.0], [4.0]], [3.0, 4.0], ["a", "b"])) == 0).all()


def test_a_video_without_a_valid_response_is_nobodys_opponent() -> None:
    alone = RankingReward()(make([[3.0, 3.2], [4.0, 4.1]], [2.0, 5.0]))
    joined = RankingReward()(make([[3.0, 3.2], [NAN, NAN], [4.0, 4.1]], [2.0, 3.0, 5.0]))
    np.testing.assert_allclose(joined, [alone[0], [0.0, 0.0], alone[1]])
    assert (RankingReward()(make([[3.0, 3.2], [NAN, NAN]], [2.0, 3.0])) == 0).all()


def test_another_dataset_changes_nothing() -> None:
    alone = RankingReward()(make([[3.0], [4.0]], [2.0, 5.0], ["a", "a"]))
    joined = RankingReward()(make([[3.0], [1.0], [4.0], [2.0]], [2.0, 9.0, 5.0, 8.0], ["a", "b", "a", "b"]))
    np.testing.assert_allclose(joined[[0, 2]], alone)


def test_twin_is_ranked_against_clean_opponents_with_its_own_spread() -> None:
    batch = make([[3.0, 3.0], [NAN, NAN], [1.0, 1.0]], [4, 3, 1], twin=[[2.0, 4.0], [3.5, 3.5], [9.0, NAN]])
    rewards = RankingReward().on_twins(batch)
    p = slow_probability((2.0 - 1.0) / math.sqrt(2.0 + EPS))
    assert rewards[0, 0] == pytest.approx(math.sqrt(p + EPS) + 1e-3)
    assert rewards[1, 0] == pytest.approx(((1e-3 + math.sqrt(EPS)) + (math.sqrt(1 + EPS) + 1e-3)) / 2)
    assert rewards[2].tolist() == pytest.approx([2e-3, 0.0])


def test_temporal_by_hand() -> None:
    # video 0: clean better than its twin; one response passes the regression gate, both pass the ranking gate
    batch = make([[4.0, 3.0], [1.0, 1.0]], [4.0, 1.0], twin=[[1.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(TemporalConsistencyReward()(batch), [[0.6, 0.3], [0.6, 0.6]])
    # a twin that is better in both terms takes everything
    batch = make([[2.0, NAN], [3.0, 3.0]], [4.0, 1.0], twin=[[4.0, 4.0], [1.0, 1.0]])
    np.testing.assert_allclose(TemporalConsistencyReward()(batch), 0.0)


def test_temporal_counts_invalid_responses_as_zero_in_the_means() -> None:
    regression = TemporalConsistencyReward(rewards=["regression"])
    assert regression(make([[4.0, NAN]], [4.0], twin=[[4.0, 4.0]])).tolist() == [[0.0, 0.0]]
    assert regression(make([[4.0, NAN]], [4.0], twin=[[NAN, NAN]])).tolist() == [[0.3, 0.0]]
    assert regression(make([[4.0, 4.0]], [4.0], twin=[[4.0, 4.0]])).tolist() == [[0.3, 0.3]]


@given(batches(twins=True))
def test_group_gate_cannot_change_an_advantage(batch: RolloutBatch) -> None:
    base = RegressionReward()(batch)
    bonus = TemporalConsistencyReward(gate="group")(batch)
    assert (np.ptp(bonus, axis=1) == 0).all()
    centred = base + bonus - (base + bonus).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(centred, base - base.mean(axis=1, keepdims=True), atol=1e-12)


def test_response_gate_does_change_an_advantage() -> None:
    bonus = TemporalConsistencyReward()(make([[4.0, 1.0]], [4.0], twin=[[1.0, 1.0]]))
    assert np.ptp(bonus) > 0


def test_temporal_without_twins_names_the_way_out() -> None:
    batch = make([[3.0]], [3.0])
    with pytest.raises(ValueError, match="name a perturbation in the recipe"):
        TemporalConsistencyReward()(batch)
    with pytest.raises(ValueError, match="no perturbed responses"):
        RankingReward().on_twins(batch)


def test_temporal_takes_parameters_of_its_terms() -> None:
    batch = make([[3.6]], [3.0], twin=[[5.0]])
    assert TemporalConsistencyReward()(batch).tolist() == [[0.0]]
    wide = TemporalConsistencyReward(rewards=[{"name": "regression", "sigma": 1.0}])
    assert wide(batch).tolist() == [[0.3]]
    assert TemporalConsistencyReward(rewards=[ThresholdReward(1.0)])(batch).tolist() == [[0.3]]


def test_win_rate_counts_videos_and_terms() -> None:
    # the first video wins with regression and ties with ranking; the second ties and loses
    batch = make([[4.0], [4.5]], [4.0, 2.0], twin=[[3.0], [-0.5]])
    assert TemporalConsistencyReward().metrics(batch) == {"win_rate": 0.75}
    assert TemporalConsistencyReward(rewards=["regression"]).metrics(batch) == {"win_rate": 1.0}
    with pytest.raises(ValueError, match="name a perturbation"):
        TemporalConsistencyReward().metrics(make([[3.0]], [3.0]))


def test_what_the_trainer_reads_of_a_reward() -> None:
    declared = {
        name: (getattr(load(name), "min_videos", 1), getattr(load(name), "needs_perturbed", False))
        for name in REWARDS
    }
    assert {name: value for name, value in declared.items() if value != (1, False)} == {
        "ranking": (2, False),
        "temporal": (2, True),
    }
    assert TemporalConsistencyReward(rewards=["regression"]).min_videos == 1


def test_a_ranking_is_computed_once_per_batch_and_eps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    compute = pairwise.mean_fidelity

    def counted(*args: Any, **kwargs: Any) -> FloatArray:
        calls.append(kwargs["eps"])
        return compute(*args, **kwargs)

    monkeypatch.setattr(pairwise, "mean_fidelity", counted)
    batch = make([[4.0], [2.0]], [4.0, 2.0], twin=[[3.0], [1.0]])
    rewards = RankingReward()(batch)
    expected = rewards.copy()
    rewards *= 0  # the caller's own copy
    TemporalConsistencyReward()(batch)
    TemporalConsistencyReward().metrics(batch)
    np.testing.assert_array_equal(RankingReward()(batch), expected)
    assert calls == [EPS, EPS]
    RankingReward(eps=1e-3)(batch)
    assert calls == [EPS, EPS, 1e-3]
    RankingReward(bounds=None)(batch)
    assert calls == [EPS, EPS, 1e-3, EPS]


@pytest.mark.parametrize("name", [name for name in SCORED if name != "length"])
def test_a_gold_answer_earns_the_maximum(name: str) -> None:
    targets = [1.25, 2.5, 3.75, 4.5]
    texts = [[answers.render("reasons", target)] * 3 for target in targets]
    rewards = load(name)(RolloutBatch.from_texts(texts, targets, perturbed=texts))
    maximum = {"regression": 0.8, "ranking": math.sqrt(1 + EPS) + 1e-3, "temporal": 0.6}.get(name, 1.0)
    np.testing.assert_allclose(rewards, maximum)


@pytest.mark.parametrize("batch_think", [True, False])
@pytest.mark.parametrize("think", [True, False])
def test_format_is_the_parser_whatever_rule_read_the_batch(batch_think: bool, think: bool) -> None:
    texts = [
        [
            "<think>a</think><answer>3</answer>",
            "<answer>3.1</answer>",
            "3.1",
            "<think></think> <answer>x</answer>",
        ],
        [" <think>\n</think>\n<answer> 4 </answer> ", "<answer>4</answer> ok", "", "<answer>.5</answer>"],
    ]
    rewards = FormatReward(think)(RolloutBatch.from_texts(texts, [3.0, 3.0], think=batch_think))
    assert rewards.tolist() == [
        [float(answers.parse(t, think=think) is not None) for t in row] for row in texts
    ]


def asked(task: str, texts: list[list[str]], references: list[str | None], **columns: Any) -> RolloutBatch:
    """Questions of one task, their answers known or not."""
    number = len(texts)
    return RolloutBatch.from_texts(
        texts, [NAN] * number, columns=columns, task=[task] * number, reference=references,
        question=["What is it like?"] * number,
    )  # fmt: skip


def test_recognition_by_hand() -> None:
    said = [
        "severe white noise",
        "<think>x</think><answer>Mild white noise.</answer>",
        "white noise",
        "noise",
    ]
    said += ["severe blur", "", "It is severe white noise", "very severe white noise"]
    batch = asked("recognition", [said, said, said], ["severe white noise", "White noise", None])
    first, second, third = evaluate(load("recognition"), batch, "recognition").tolist()
    assert first == [1.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5]
    assert second == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]  # no severity is known
    assert np.isnan(third).all()
    other = load("recognition", kind=1.0, severity=0.25)
    assert evaluate(other, batch, "recognition")[0].tolist()[:2] == [1.25, 1.0]
    assert load("recognition").metrics(batch) == {"kind": 0.5}  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="negative"):
        load("recognition", kind=-1.0)


@pytest.mark.parametrize("options", [["blur", "noise"], '["blur", "noise"]'])
def test_choice_by_hand(options: object) -> None:
    said = ["B", "noise", "<think>A</think><answer>B. noise</answer>", "A", "", "B. blur"]
    batch = asked("question", [said, said], ["B. noise", "grain"], options=[options, None], correct=[1, None])
    first, second = evaluate(load("choice"), batch, "choice").tolist()
    assert first == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert np.isnan(second).all()


def judged(text: str) -> str:
    answer = next(line for line in text.splitlines() if line.startswith("Answer to grade"))
    return json.dumps({"score": 2 if "grain" in answer else 1 if "soft" in answer else 0, "reason": ""})


def test_judge_by_hand() -> None:
    said = ["There is grain.", "<think>grain</think><answer>It is soft.</answer>", "", "sharp"]
    batch = asked("question", [said, said, said], ["grain", None, "A. grain"], options=[None, None, ["a"]])
    with ChatServer(judged) as server:
        reward = load("judge", model="m", url=server.url, rounds=3, time_limit=5.0)
        first, second, third = evaluate(reward, batch, "judge").tolist()
        assert len(server.seen) == 3 * 3  # nobody is asked about an empty answer
        evaluate(reward, batch, "judge")
    assert first == [1.0, 0.5, 0.0, 0.0]
    assert np.isnan([second, third]).all()


def test_a_judge_that_fails_leaves_the_sample_out_or_ends_the_run() -> None:
    """A response without a grade would be compared with its siblings by its other rewards alone."""

    def fault(text: str, times: int) -> str | None:
        return "400" if "Answer to grade: odd" in text else None

    batch = asked("question", [["grain", "odd"], ["grain", "sharp"]], ["grain", "grain"])
    with ChatServer(judged, fault) as server:
        options: dict[str, Any] = {"url": server.url, "retries": 0, "time_limit": 5.0}
        first, second = evaluate(load("judge", **options), batch, "judge").tolist()
        assert np.isnan(first).all()
        assert second == [1.0, 0.0]
        strict = load("judge", most_failed=0.4, **options)
        for _ in range(3):  # of few samples one is no share
            evaluate(strict, batch, "judge")
        with pytest.raises(RuntimeError, match=r"has not graded 4 of 8 samples; judge: .*fault 400"):
            evaluate(strict, batch, "judge")


def test_wrong_arguments_of_a_judge() -> None:
    with pytest.raises(ValueError, match="unexpected keyword argument 'timelimit'"):
        load("judge", timelimit=3)
    with pytest.raises(ValueError, match="a share from 0 to 1"):
        load("judge", most_failed=2.0)
    with pytest.raises(ValueError, match="at least once"):
        load("judge", rounds=0)


def test_baselines_by_hand() -> None:
    scores, target = [[3.0, 3.34, 3.35, 7.5, NAN]], [3.0]
    assert load("threshold")(make(scores, target)).tolist() == [[1.0, 1.0, 0.0, 0.0, 0.0]]
    np.testing.assert_allclose(load("linear")(make(scores, target)), [[1.0, 0.915, 0.9125, 0.0, 0.0]])
    texts = [["3.50", "3.5", "3", "3.125"]]
    coarse = [[f"<think>r</think><answer>{written}</answer>" for written in row] for row in texts]
    rewards = CoarseRegressionReward(sigma=1e6)(RolloutBatch.from_texts(coarse, [3.0]))
    np.testing.assert_allclose(rewards, [[1.0, 0.8, 0.8, 1.0]])


def test_length_counts_words_of_the_reasoning() -> None:
    texts = [[answers.render("word " * num, 3.0) for num in (1, 2, 4, 5)] + ["word word word"]]
    rewards = LengthReward(min_words=2, max_words=4, bonus=0.2)(RolloutBatch.from_texts(texts, [3.0]))
    assert rewards.tolist() == [[0.0, 0.2, 0.2, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("regression", {"alpha": 0.0}),
        ("regression", {"sigma": NAN}),
        ("ranking", {"eps": 0.0}),
        ("ranking", {"bounds": [6, 0]}),
        ("ranking", {"bounds": [0, math.inf]}),
        ("ranking", {"bounds": [0, 3, 6]}),
        ("ranking", {"bounds": "0-6"}),
        ("ranking", {"bounds": ["a", "b"]}),
        ("ranking", {"among": 1}),
        ("ranking", {"among": 2.5}),
        ("regression", {"sigma": "wide"}),
        ("temporal", {"delta": -0.1}),
        ("temporal", {"tau": math.inf}),
        ("temporal", {"gate": "video"}),
        ("temporal", {"rewards": []}),
        ("temporal", {"rewards": "ranking"}),
        ("temporal", {"rewards": ["rankin"]}),
        ("threshold", {"width": -1.0}),
        ("linear", {"span": 0.0}),
        ("length", {"min_words": 9, "max_words": 3}),
        ("length", {"bonus": NAN}),
        ("coarse_regression", {"penalty": 1.5}),
    ],
)
def test_bad_parameters_are_refused(name: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^'{name}': .*(got|nearest|not supported)"):
        load(name, **kwargs)


# --- checked call


def test_evaluate_names_a_reward_that_raises() -> None:
    def broken(batch: RolloutBatch) -> FloatArray:
        raise KeyError("column")

    with pytest.raises(RuntimeError, match=r"'mine' failed on the videos \['v0', 'v1'\]") as caught:
        evaluate(broken, make([[3.0], [4.0]], [3.0, 4.0]), "mine")
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros((2, 1)), r"shape \(2, 1\) instead of \(2, 2\)"),
        (0.5, r"shape \(\)"),
        (np.array([[0, 1], [NAN, 1]]), r"1 values that are not finite, the first, nan, .* of the video 'v1'"),
        (np.array([[0, math.inf], [0, 1]]), "inf"),
        ([[None, 1.0], [0.0, 1.0]], "object values"),
        ([["a", "b"], ["c", "d"]], "instead of numbers"),
    ],
)
def test_evaluate_refuses_what_is_not_a_reward(returned: object, message: str) -> None:
    with pytest.raises(ValueError, match=rf"'mine' .*{message}"):
        evaluate(lambda batch: returned, make([[3.0, 3.0], [4.0, 4.0]], [3.0, 4.0]), "mine")


def test_evaluate_accepts_other_number_types() -> None:
    values = evaluate(lambda batch: np.ones((1, 2), dtype=np.float32), make([[3.0, 4.0]], [3.0]), "mine")
    assert values.dtype == np.float64


# --- TRL


def rows_of(batch: RolloutBatch) -> list[Record]:
    assert batch.perturbed is not None
    return [
        Record(
            batch.dataset[i],
            batch.video_id[i],
            float(batch.target[i]),
            batch.texts[i][k],
            batch.perturbed.texts[i][k],
        )
        for i in range(batch.num_videos)
        for k in range(batch.num_responses)
    ]


def parsed_batch(seed: int = 0) -> RolloutBatch:
    rng = np.random.default_rng(seed)
    texts, twins = (
        [[answers.render("r", x) for x in row] for row in rng.uniform(1, 5, (6, 4))] for _ in range(2)
    )
    texts[2] = ["broken"] * 4
    return RolloutBatch.from_texts(texts, rng.uniform(1, 5, 6), dataset=list("aabbab"), perturbed=twins)


@pytest.mark.parametrize("name", ["format", "regression", "ranking", "temporal"])
def test_rows_in_any_order_and_split_over_processes_equal_one_batch(name: str) -> None:
    batch = parsed_batch()
    rows, expected = rows_of(batch), load(name)(batch).ravel()
    order = np.random.default_rng(1).permutation(len(rows))
    values = reward_rows(load(name), [rows[i] for i in order], name=name)
    np.testing.assert_allclose(values, expected[order], atol=1e-12)


@pytest.mark.parametrize("conversational", [True, False])
def test_as_trl_in_two_processes(conversational: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = parsed_batch(3)
    rows, expected = rows_of(batch), load("temporal")(batch).ravel()
    function = as_trl(load("temporal"))
    assert function.__name__ == "TemporalConsistencyReward"
    halves = [rows[0:24:2], rows[1:24:2]]  # every group is spread over both processes

    for rank in (0, 1):

        def gathered(local: list[Record], rank: int = rank) -> tuple[list[Record], int]:
            assert local == halves[rank]
            return halves[0] + halves[1], rank * len(halves[0])

        monkeypatch.setattr("rewards.trl.gather", gathered)
        local = halves[rank]
        values = pickle.loads(pickle.dumps(function))(
            prompts=[""] * len(local),
            completions=[
                [{"role": "assistant", "content": row.text}] if conversational else row.text for row in local
            ],
            video_id=[row.video_id for row in local],
            dataset=[row.dataset for row in local],
            target=[row.target for row in local],
            twin_text=[row.twin_text for row in local],
            trainer_state=None,
        )
        assert all(type(value) is float for value in values)
        np.testing.assert_allclose(values, expected[rank::2], atol=1e-12)


PROCESS = """
import sys
import numpy as np
import torch.distributed as distributed
from rewards import as_trl, load
from vqathinker import answers

rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
scores, ids, target = [2.0, 4.0, 3.0, 3.5], ["a", "b", "b", "a"], [2.0, 4.0, 4.0, 2.0]
mine = slice(rank, 4, 2)
texts = [answers.render("r", score) for score in scores]
function = as_trl(load("ranking"))
print(function([""] * 2, texts[mine], video_id=ids[mine], target=target[mine]))
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_as_trl_gathers_over_a_real_process_group(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
    expected = RankingReward()(make([[2.0, 3.5], [4.0, 3.0]], [2.0, 4.0]))
    rows = [expected[0, 0], expected[1, 0], expected[1, 1], expected[0, 1]]
    for rank, output in enumerate(outputs):
        np.testing.assert_allclose(json.loads(output), rows[rank::2], atol=1e-12)


def test_as_trl_names_what_is_missing_or_unequal() -> None:
    text = answers.render("r", 3.0)
    function = as_trl(load("regression"))
    with pytest.raises(ValueError, match="column 'target'"):
        function([""], [text], video_id=["a"])
    with pytest.raises(ValueError, match="same number of responses"):
        function([""] * 3, [text] * 3, video_id=["a", "a", "b"], target=[3.0] * 3)
    with pytest.raises(ValueError, match="different targets"):
        function([""] * 2, [text] * 2, video_id=["a", "a"], target=[3.0, 4.0])
    with pytest.raises(ValueError, match="1 of 2 rows have a twin_text"):
        function([""] * 2, [text] * 2, video_id=["a", "a"], target=[3.0] * 2, twin_text=[text, None])
    assert function([], [], video_id=[], target=[]) == []


def test_as_trl_hands_named_columns_over() -> None:
    def fps(batch: RolloutBatch) -> FloatArray:
        return np.array(batch.columns["fps"], dtype=np.float64)[:, None] * np.ones_like(batch.scores)

    values = as_trl(fps, columns=["fps"])(
        [""] * 4, ["x"] * 4, video_id=list("abab"), target=[3.0] * 4, fps=[24, 30, 24, 30], other=[0] * 4
    )
    assert values == [24.0, 30.0, 24.0, 30.0]


def test_the_form_of_an_answer_in_words() -> None:
    """One for samples of other tasks, where a recipe says that it is for them."""
    item = {"name": "format", "tasks": ["score", "recognition"]}
    (plugin,) = build(item, REWARDS, group="vqathinker.rewards", declares=("tasks",))
    said = [
        answers.render("r", "blur"),
        answers.render(None, "blur"),
        answers.render("r", " "),
        answers.render("r", 3.0),
        answers.render("r", 3.0) + " blur",
    ]
    batch = RolloutBatch.from_texts(
        [said] * 3, [3.0, math.nan, math.nan], task=["score", "recognition", "question"]
    )
    found = evaluate(plugin.function, batch, "format")
    np.testing.assert_equal(found, [[0, 0, 0, 1, 0], [1, 0, 0, 1, 0], [np.nan] * 5])
    assert load("format", think=False)(batch)[1].tolist() == [1, 1, 0, 1, 0]


def test_rewards_of_other_tasks_cross_the_bridge_both_ways() -> None:
    texts = [answers.render("r", said) for said in ("mild blur", "noise", "3.00", "3.00")]
    columns: dict[str, list[Any]] = {
        "video_id": ["a", "a", "b", "b"],
        "task": ["recognition", "recognition", "score", "score"],
        "answer": ["mild blur", "mild blur", None, None],
        "target": [None, None, 3.0, 3.0],
    }
    found = as_trl(load("recognition"))([""] * 4, texts, **columns)
    assert (found[0], found[2:]) == (1.0, [None, None])
    assert found[1] == 0.0

    def right(completions: list[str], task: list[str], answer: list[str], **_: Any) -> list[float]:
        assert task == ["recognition"] * 2
        return [float(said == wanted) for said, wanted in zip(completions, answer, strict=True)]

    batch = RolloutBatch.from_texts(
        [["blur", "noise"]], [math.nan], task=["recognition"], reference=["noise"], question=["Which?"]
    )
    assert from_trl(right)(batch).tolist() == [[0.0, 1.0]]


def count_characters(prompts: list[Any], completions: list[str], **columns: list[Any]) -> list[float]:
    return [len(text) + weight for text, weight in zip(completions, columns["weight"], strict=True)]


def test_from_trl() -> None:
    batch = RolloutBatch.from_texts(
        [["a", "bb"], ["ccc", "dddd"]], [3.0, 4.0], columns={"weight": [10.0, 20.0]}
    )
    for reward in (from_trl(count_characters), FromTrl(f"{__name__}:count_characters")):
        again = pickle.loads(pickle.dumps(reward))
        assert again(batch).tolist() == [[11.0, 12.0], [23.0, 24.0]]


def test_from_trl_says_whether_the_function_asks_for_twins() -> None:
    def reads_twins(completions: list[str], twin_text: list[str], **columns: list[Any]) -> list[float]:
        return [float(text == twin) for text, twin in zip(completions, twin_text, strict=True)]

    def declares(completions: list[str], **columns: list[Any]) -> list[float]:
        return [float(len(text)) for text in columns["twin_text"]]

    declares.needs_perturbed = True  # type: ignore[attr-defined]
    assert not from_trl(count_characters).needs_perturbed
    assert not from_trl(max).needs_perturbed
    for function in (reads_twins, declares, as_trl(load("temporal"))):
        assert from_trl(function).needs_perturbed
    batch = RolloutBatch.from_texts([["a", "b"]], [3.0], perturbed=[["a", "a"]])
    assert from_trl(reads_twins)(batch).tolist() == [[1.0, 0.0]]


def test_what_a_recipe_declares_of_a_function_stays_with_it() -> None:
    item = {"name": f"{__name__}:count_characters", "tasks": ["score"], "datasets": ["b"]}
    (plugin,) = build(item, REWARDS, group="vqathinker.rewards", declares=("tasks", "datasets"))
    reward = as_reward(plugin.function)
    batch = RolloutBatch.from_texts(
        [["a"], ["bb"]], [3.0, 4.0], dataset=["a", "b"], columns={"weight": [10.0, 20.0]}
    )
    np.testing.assert_equal(evaluate(reward, batch, "count"), [[np.nan], [22.0]])
    assert not hasattr(count_characters, "tasks")  # it stays as it is for others


def test_what_a_recipe_declares_of_an_instance_is_its_own() -> None:
    known = RegressionReward()
    items = [{"name": "mine", "datasets": ["a"]}, {"name": "mine", "as": "other"}]
    plugins = build(items, {"mine": known}, group="g", declares=("datasets",))
    assert [getattr(plugin.function, "datasets", None) for plugin in plugins] == [("a",), None]
    with pytest.raises(ValueError, match="mine: datasets must be a list of names, got 'a'"):
        build(
            {"name": "mine", "datasets": "a"}, {"mine": RegressionReward}, group="g", declares=("datasets",)
        )
    with pytest.raises(ValueError, match="datasets"):  # nobody declares that of perturbations
        build({"name": "mine", "datasets": ["a"]}, {"mine": RegressionReward}, group="g")


def test_from_trl_round_trip_and_messages() -> None:
    batch = parsed_batch(5)
    back = from_trl(as_trl(load("temporal")), conversational=True)
    np.testing.assert_allclose(back(batch), load("temporal")(batch), atol=1e-12)


def sometimes(completions: list[str], **columns: list[Any]) -> list[float | None]:
    return [None, 1.0]


def nothing(completions: list[str], **columns: list[Any]) -> None:
    """No rewards."""


def test_from_trl_refuses_wrong_numbers() -> None:
    with pytest.raises(ValueError, match="2 rewards for 1 completions"):
        from_trl(sometimes)(RolloutBatch.from_texts([["a"]], [3.0]))
    with pytest.raises(ValueError, match="'nothing' returned None instead of a list"):
        from_trl(nothing)(RolloutBatch.from_texts([["a"]], [3.0]))


def test_none_leaves_a_row_out_as_in_trl() -> None:
    batch = RolloutBatch.from_texts([["a", "b"]], [3.0])
    values = evaluate(from_trl(sometimes), batch, "mine")
    np.testing.assert_array_equal(values, [[NAN, 1.0]])
    back = as_trl(from_trl(sometimes))(["", ""], ["a", "b"], video_id=["v", "v"], target=[3.0, 3.0])
    assert back == [None, 1.0]

    def says_nan(completions: list[str], **columns: list[Any]) -> list[float | None]:
        return [None, NAN]

    with pytest.raises(ValueError, match="returned 1 values that are not finite, the first, nan"):
        evaluate(from_trl(says_nan), batch, "mine")
