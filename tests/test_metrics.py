"""The agreement metrics against scipy and hand-written loops, and the coverage of their intervals."""

import itertools
import json
import math
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from vqathinker import metrics
from vqathinker.types import FloatArray

PAIRWISE = [metrics.srcc, metrics.plcc, metrics.plcc_logistic, metrics.krcc]
ALL = [*PAIRWISE, metrics.rmse]

# Two decimals, as models write scores: ties are common.
scores = st.integers(-500, 500).map(lambda value: value / 100)
pairs = st.lists(st.tuples(scores, scores), min_size=3, max_size=40)


def columns(rows: list[tuple[float, float]]) -> tuple[FloatArray, FloatArray]:
    array = np.array(rows)
    assume(np.ptp(array[:, 0]) > 0 and np.ptp(array[:, 1]) > 0)
    return array[:, 0], array[:, 1]


def video_scores(num_videos: int, seed: int = 0, noise: float = 0.5) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    target = rng.uniform(1, 5, num_videos)
    return target + rng.normal(0, noise, num_videos), target


def mean_ranks(values: FloatArray) -> list[float]:
    return [sum(other < value for other in values) + (sum(values == value) + 1) / 2 for value in values]


def kendall_by_pairs(left: FloatArray, right: FloatArray) -> float:
    agreement = left_pairs = right_pairs = 0
    for i, j in itertools.combinations(range(len(left)), 2):
        a, b = int(np.sign(left[i] - left[j])), int(np.sign(right[i] - right[j]))
        agreement, left_pairs, right_pairs = agreement + a * b, left_pairs + abs(a), right_pairs + abs(b)
    return agreement / math.sqrt(left_pairs * right_pairs)


def best_logistic_on_a_grid(predicted: FloatArray, target: FloatArray) -> float:
    """Search centre and width by trial; for each, the best asymptotes are a linear regression."""
    unit = (predicted - predicted.mean()) / predicted.std()
    found = 0.0
    for centre, width in itertools.product(np.linspace(-3, 3, 25), np.geomspace(0.1, 20, 25)):
        curve = 1 / (1 + np.exp(-(unit - centre) / width))
        found = max(found, abs(float(np.corrcoef(curve, target)[0, 1])))
    return found


@given(pairs)
@settings(deadline=None)
def test_correlations_agree_with_independent_oracles(rows: list[tuple[float, float]]) -> None:
    predicted, target = columns(rows)
    ranks = np.corrcoef(mean_ranks(predicted), mean_ranks(target))[0, 1]
    assert metrics.srcc(predicted, target) == pytest.approx(ranks, abs=1e-9)
    assert metrics.srcc(predicted, target) == pytest.approx(
        stats.spearmanr(predicted, target).statistic, abs=1e-9
    )
    assert metrics.plcc(predicted, target) == pytest.approx(
        stats.pearsonr(predicted, target).statistic, abs=1e-9
    )
    assert metrics.krcc(predicted, target) == pytest.approx(kendall_by_pairs(predicted, target), abs=1e-9)
    squares = [(p - t) ** 2 for p, t in rows]
    assert metrics.rmse(predicted, target) == pytest.approx(math.sqrt(sum(squares) / len(squares)))


@given(pairs)
@settings(deadline=None, max_examples=10)
def test_logistic_is_never_worse_than_the_straight_line(rows: list[tuple[float, float]]) -> None:
    predicted, target = columns(rows)
    assume(len(rows) >= metrics.MIN_VIDEOS_LOGISTIC)
    mapped = metrics.fit_logistic(predicted, target)(predicted)
    straight = abs(metrics.plcc(predicted, target))
    residual = target.std() * math.sqrt(max(0.0, 1 - straight**2))
    assert metrics.rmse(mapped, target) <= residual + 0.01 * target.std()


@given(st.lists(st.floats(-1e300, 1e300), min_size=0, max_size=12), st.integers(0, 2**16))
@settings(deadline=None, max_examples=50)
def test_any_finite_scores_give_a_number_without_warnings(values: list[float], seed: int) -> None:
    target = np.random.default_rng(seed).uniform(1, 5, len(values))
    for metric in PAIRWISE:
        value = metric(values, target)
        assert math.isnan(value) or -1 <= value <= 1
    assert math.isnan(metrics.rmse(values, target)) or metrics.rmse(values, target) >= 0


@pytest.mark.parametrize(
    "relation",
    [
        lambda q: q,
        lambda q: -q,
        lambda q: 1 + 4 / (1 + np.exp(-4 * (q - 2))),
        np.exp,
        lambda q: (q - 2.5) ** 2,
        lambda q: 20 * q + 1000,
    ],
)
@pytest.mark.parametrize("num_videos", [8, 200])
def test_logistic_finds_the_best_of_a_grid(relation: np.ufunc, num_videos: int) -> None:
    predicted, _ = video_scores(num_videos, noise=0.0)
    clean = relation(predicted)
    target = clean + np.random.default_rng(1).normal(0, 0.2 * clean.std(), num_videos)
    found = metrics.plcc_logistic(predicted, target)
    assert found >= best_logistic_on_a_grid(predicted, target) - 1e-4


def test_logistic_recovers_the_curve_that_made_the_data() -> None:
    curve = metrics.Logistic(upper=90.0, lower=15.0, centre=3.2, width=0.4)
    predicted = np.linspace(1, 5, 50)
    fitted = metrics.fit_logistic(predicted, curve(predicted))
    for name in ("upper", "lower", "centre", "width"):
        assert getattr(fitted, name) == pytest.approx(getattr(curve, name), rel=1e-3)


def test_logistic_needs_four_videos() -> None:
    assert math.isnan(metrics.plcc_logistic([1, 2, 3], [1, 2, 4]))
    assert math.isnan(metrics.fit_logistic([1, 2, 3], [1, 2, 4]).width)
    assert metrics.plcc_logistic([1, 2, 3, 5], [1, 2, 4, 5]) > 0.9


def test_ties_share_their_mean_rank() -> None:
    predicted, target = [3.0, 3.0, 3.0, 4.0, 4.0, 1.0], [2.0, 2.0, 5.0, 5.0, 4.0, 1.0]
    assert metrics.srcc(predicted, target) == pytest.approx(stats.spearmanr(predicted, target).statistic)
    # 8 concordant and 1 discordant pair; 11 of 15 untied in the predictions, 13 in the targets
    assert metrics.krcc(predicted, target) == pytest.approx((9 - 1) / math.sqrt(11 * 13))


@pytest.mark.parametrize("metric", ALL)
def test_fewer_than_three_videos_are_undefined(metric: object) -> None:
    for num_videos in range(metrics.MIN_VIDEOS):
        values = list(range(num_videos))
        assert math.isnan(metric(values, values))  # type: ignore[operator]


@pytest.mark.parametrize("metric", PAIRWISE)
@pytest.mark.parametrize("constant", [0.0, 3.1, 1e300])
def test_constant_lists_are_undefined(metric: object, constant: float) -> None:
    varied = [1.0, 2.5, 3.0, 4.0, 4.5]
    assert math.isnan(metric([constant] * 5, varied))  # type: ignore[operator]
    assert math.isnan(metric(varied, [constant] * 5))  # type: ignore[operator]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("predicted", "target", "message"),
    [
        ([1, 2, 3], [1, 2], "one length"),
        ([[1, 2, 3]], [[1, 2, 3]], "one length"),
        ([1, 2, 3], [1, 2, math.nan], "target 2 is not finite"),
        ([1, 2, 3], [math.inf, 2, 3], "target 0 is not finite"),
        ([1, -math.inf, 3], [1, 2, 3], "prediction 1 is infinite"),
    ],
)
def test_lists_that_do_not_fit_raise(metric: object, predicted: list, target: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(predicted, target)  # type: ignore[operator]


def test_failed_predictions_are_counted_and_left_out() -> None:
    predicted, target = video_scores(60)
    failed = predicted.copy()
    failed[::6] = math.nan
    result = metrics.correlations(failed, target, num_bootstrap=20)
    kept = ~np.isnan(failed)
    assert (result.num_videos, result.num_failed) == (60, 10)
    assert result.srcc.value == metrics.srcc(predicted[kept], target[kept])
    assert result.rmse.value == metrics.rmse(predicted[kept], target[kept])


def test_correlations_hold_every_metric_on_the_full_sample() -> None:
    predicted, target = video_scores(80)
    result = metrics.correlations(predicted, target, num_bootstrap=50)
    mapped = metrics.fit_logistic(predicted, target)(predicted)
    assert result.srcc.value == metrics.srcc(predicted, target)
    assert result.plcc.value == metrics.plcc(predicted, target)
    assert result.krcc.value == metrics.krcc(predicted, target)
    assert result.rmse.value == metrics.rmse(predicted, target)
    assert result.plcc_logistic.value == metrics.plcc_logistic(predicted, target)
    assert result.rmse_logistic.value == metrics.rmse(mapped, target)
    for name in metrics.METRICS:
        estimate = getattr(result, name)
        assert estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize("predicted", [[], [math.nan] * 5, [2.0] * 5, [1.0, 2.0, math.nan]])
def test_undefined_metrics_have_undefined_intervals(predicted: list[float]) -> None:
    result = metrics.correlations(predicted, np.arange(len(predicted)), num_bootstrap=10)
    assert result.num_videos == len(predicted)
    assert all(math.isnan(part) for part in (result.srcc.value, result.srcc.low, result.srcc.high))
    assert math.isnan(result.plcc_logistic.high)


def test_intervals_are_a_function_of_the_seed() -> None:
    predicted, target = video_scores(50)
    first, again, other = (
        metrics.correlations(predicted, target, num_bootstrap=30, seed=s) for s in (1, 1, 2)
    )
    assert first == again
    assert first.srcc.low != other.srcc.low


def test_intervals_widen_with_confidence_and_narrow_with_videos() -> None:
    def width(num_videos: int, confidence: float) -> float:
        result = metrics.correlations(*video_scores(num_videos), num_bootstrap=200, confidence=confidence)
        return result.srcc.high - result.srcc.low

    assert width(50, 0.5) < width(50, 0.95)
    assert width(800, 0.95) < width(50, 0.95)


def test_no_resamples_give_no_interval() -> None:
    result = metrics.correlations(*video_scores(10), num_bootstrap=0)
    assert result.plcc.value > 0
    assert math.isnan(result.plcc.low)


@pytest.mark.parametrize("options", [{"confidence": 0.0}, {"confidence": 95}, {"num_bootstrap": -1}])
def test_options_out_of_range_raise(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        metrics.correlations([1, 2, 3], [1, 2, 3], **options)


def test_bootstrap_intervals_cover_the_true_correlation() -> None:
    """About 95 % of the intervals of samples of a bivariate normal must hold the population's value."""
    rho, num_samples = 0.8, 40
    truth = {
        "plcc": rho,
        "srcc": 6 / math.pi * math.asin(rho / 2),
        "krcc": 2 / math.pi * math.asin(rho),
        "rmse": math.sqrt(2 - 2 * rho),
    }
    covered = dict.fromkeys(truth, 0)
    rng = np.random.default_rng(7)
    for seed in range(num_samples):
        sample = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=100)
        result = metrics.correlations(sample[:, 0], sample[:, 1], num_bootstrap=50, seed=seed)
        for name, value in truth.items():
            estimate = getattr(result, name)
            covered[name] += estimate.low <= value <= estimate.high
    assert all(32 <= count < num_samples for count in covered.values()), covered


def test_to_dict_is_plain_json() -> None:
    result = metrics.correlations(*video_scores(20), num_bootstrap=10)
    loaded = json.loads(json.dumps(result.to_dict()))
    assert loaded["num_videos"] == 20
    assert loaded["srcc"] == {
        "value": result.srcc.value,
        "low": result.srcc.low,
        "high": result.srcc.high,
    }
    assert set(loaded) == {"num_videos", "num_failed", *metrics.METRICS}


def test_overall_is_weighted_by_the_number_of_videos() -> None:
    values, counts = [0.9, 0.7, 0.8], [7182, 3573, 1200]
    every_video = np.concatenate([np.full(n, v) for v, n in zip(values, counts, strict=True)])
    assert metrics.overall(values, counts) == pytest.approx(every_video.mean())
    assert math.isnan(metrics.overall([0.9, math.nan], [10, 10]))


@pytest.mark.parametrize(
    ("values", "counts"), [([], []), ([0.9], [0]), ([0.9], [1, 2]), ([0.9, 0.8], [5, -1])]
)
def test_overall_rejects_missing_counts(values: list[float], counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"counts|positive number"):
        metrics.overall(values, counts)


def test_the_largest_test_set_takes_seconds() -> None:
    """7,182 videos are LSVQ-test; a tenth of the default resamples keeps the test short."""
    predicted, target = (values.round(2) for values in video_scores(7182))
    start = time.process_time()  # not the clock: the machine may be busy
    metrics.correlations(predicted, target, num_bootstrap=100)
    assert time.process_time() - start < 3
