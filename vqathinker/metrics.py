"""How well predicted scores agree with mean opinion scores, with the uncertainty of a finite set of videos.

Knows two lists of numbers: no model, no file, no data set. Every function takes `predicted` and `target`, two
lists of one length, a value per video. A NaN prediction means that no score was read: the video is left out.
A metric that is not defined (fewer than three videos, a constant list) is NaN; lists that do not fit (lengths
differ, a target is not finite, a prediction is infinite) raise ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, optimize, special, stats

from vqathinker.types import FloatArray

MIN_VIDEOS = 3
MIN_CLUSTERS = 2  # of answers that go together
MIN_VIDEOS_LOGISTIC = 4  # as many as the mapping has parameters
CENTRE_BOUND = 10.0  # in standard deviations of the predictions around their mean
WIDTH_BOUNDS = (0.05, 20.0)  # the same unit; the widest curve is straight to 0.2 % over three of them
ASYMPTOTE_BOUND = 100.0  # in standard deviations of the targets around their mean
METRICS = ("srcc", "plcc", "krcc", "rmse", "plcc_logistic", "rmse_logistic")


@dataclass(frozen=True)
class Estimate:
    """A metric on all videos and its bootstrap interval, NaN where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Metrics:
    """Agreement of predictions with mean opinion scores.

    Attributes:
        num_videos: videos given.
        num_failed: of these, videos with a NaN prediction; the metrics leave them out.
        srcc: Spearman's rank correlation.
        plcc: Pearson's correlation of the predictions as they are (arXiv 2508.06051, Eq. 14).
        plcc_logistic: Pearson's correlation after the logistic mapping.
        krcc: Kendall's rank correlation, tau-b.
        rmse: root mean squared error of the predictions as they are; both lists must be on one scale.
        rmse_logistic: root mean squared error after the logistic mapping, in units of the target.
    """

    num_videos: int
    num_failed: int
    srcc: Estimate
    plcc: Estimate
    plcc_logistic: Estimate
    krcc: Estimate
    rmse: Estimate
    rmse_logistic: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers: two counts, and `value`, `low`, `high` for each metric."""
        return asdict(self)


@dataclass(frozen=True)
class Logistic:
    """The VQEG's mapping from a predicted score x to a mean opinion score.

    f(x) = lower + (upper - lower) / (1 + exp(-(x - centre) / width)), width > 0. The curve falls if upper is
    below lower. All parameters are NaN where no mapping can be fitted.
    """

    upper: float
    lower: float
    centre: float
    width: float

    def __call__(self, predicted: ArrayLike) -> FloatArray:
        """Map predicted scores, any shape, to the scale of the targets.

        >>> Logistic(upper=5, lower=1, centre=3, width=0.5)([3, 300]).tolist()
        [3.0, 5.0]
        """
        score = np.asarray(predicted, dtype=np.float64)
        share = special.expit((score - self.centre) / self.width)
        return np.asarray(self.lower + (self.upper - self.lower) * share)


def srcc(predicted: ArrayLike, target: ArrayLike) -> float:
    """Return Spearman's rank correlation; ties share their mean rank.

    >>> round(srcc([1, 2, 3, 4], [1.0, 2.5, 2.0, 4.9]), 4)
    0.8
    """
    score, mos = _pairs(predicted, target)
    return plcc(stats.rankdata(score), stats.rankdata(mos))


def plcc(predicted: ArrayLike, target: ArrayLike) -> float:
    """Return Pearson's linear correlation of the raw predictions (arXiv 2508.06051, Eq. 14).

    >>> round(plcc([1, 2, 3, 4], [1.0, 2.5, 2.0, 4.9]), 4)
    0.8735
    """
    score, mos = _pairs(predicted, target)
    if _undefined(score, mos):
        return math.nan
    # Scaled before they are multiplied: products of very large or small scores leave the range of a float.
    left, right = (_standardise(values)[0] for values in (score, mos))
    return float(np.clip(left @ right / len(score), -1.0, 1.0))


def plcc_logistic(predicted: ArrayLike, target: ArrayLike) -> float:
    """Return Pearson's linear correlation after `fit_logistic`; needs four videos.

    Not negative: where predictions fall as quality rises, the fitted curve falls too. `srcc` keeps the sign.

    >>> mos = [1.0, 1.1, 1.5, 3.0, 4.5, 4.9, 5.0]
    >>> round(plcc([1, 2, 3, 4, 5, 6, 7], mos), 3), round(plcc_logistic([1, 2, 3, 4, 5, 6, 7], mos), 3)
    (0.962, 1.0)
    """
    return plcc(fit_logistic(predicted, target)(predicted), target)


def krcc(predicted: ArrayLike, target: ArrayLike) -> float:
    """Return Kendall's rank correlation, tau-b.

    >>> round(krcc([1, 2, 3, 4], [1.0, 2.5, 2.0, 4.9]), 4)
    0.6667
    """
    score, mos = _pairs(predicted, target)
    return math.nan if _undefined(score, mos) else float(stats.kendalltau(score, mos).statistic)


def rmse(predicted: ArrayLike, target: ArrayLike) -> float:
    """Return the root mean squared error of the raw predictions, in units of the target.

    For the error after the mapping, pass `fit_logistic(predicted, target)(predicted)`.

    >>> round(rmse([1, 2, 3, 4], [1.0, 2.5, 2.0, 4.9]), 4)
    0.7176
    """
    score, mos = _pairs(predicted, target)
    if len(score) < MIN_VIDEOS:
        return math.nan
    return float(linalg.norm(score - mos) / math.sqrt(len(score)))


def fit_logistic(predicted: ArrayLike, target: ArrayLike) -> Logistic:
    """Fit the VQEG's four-parameter logistic by least squares.

    The search runs in standard deviations, inside bounds, from two starts: the VQEG's (asymptotes at the
    extremes of the targets) and a nearly straight line. The better end is kept, also where the search stops
    before it converges, so the error is never above that of either start. A near-linear relation has no
    unique logistic: the parameters are then arbitrary, the mapped scores are not.

    Returns:
        The mapping, with NaN parameters if there are fewer than four videos or one of the lists is constant.

    >>> curve = Logistic(upper=80, lower=20, centre=3, width=0.5)
    >>> fit_logistic([1, 2, 3, 4, 5], curve([1, 2, 3, 4, 5]))([2.5, 3.0]).round(2).tolist()
    [36.14, 50.0]
    """
    score, mos = _pairs(predicted, target)
    if len(score) < MIN_VIDEOS_LOGISTIC or _undefined(score, mos):
        return Logistic(math.nan, math.nan, math.nan, math.nan)
    x, x_mean, x_deviation = _standardise(score)
    y, y_mean, y_deviation = _standardise(mos)
    upper, lower = (y.max(), y.min()) if x @ y >= 0 else (y.min(), y.max())
    wide = WIDTH_BOUNDS[1] / 2
    straight = 2 * wide * float(x @ y) / len(x)  # asymptotes of a curve as steep as the regression line
    highest = np.array([ASYMPTOTE_BOUND, ASYMPTOTE_BOUND, CENTRE_BOUND, math.log(WIDTH_BOUNDS[1])])
    lowest = np.array([-ASYMPTOTE_BOUND, -ASYMPTOTE_BOUND, -CENTRE_BOUND, math.log(WIDTH_BOUNDS[0])])

    def residual(parameters: FloatArray) -> FloatArray:
        top, bottom, centre, log_width = parameters
        return np.asarray(bottom + (top - bottom) * special.expit((x - centre) / math.exp(log_width)) - y)

    starts = [(upper, lower, 0.0, math.log(0.5)), (straight, -straight, 0.0, math.log(wide))]
    ends = [optimize.least_squares(residual, np.array(start), bounds=(lowest, highest)) for start in starts]
    top, bottom, centre, log_width = min(ends, key=lambda end: float(end.cost)).x
    return Logistic(
        upper=float(top * y_deviation + y_mean),
        lower=float(bottom * y_deviation + y_mean),
        centre=float(centre * x_deviation + x_mean),
        width=float(math.exp(log_width) * x_deviation),
    )


# what runs are compared by
COMPARED: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {"SRCC": srcc, "PLCC": plcc}


def correlations(
    predicted: ArrayLike,
    target: ArrayLike,
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Metrics:
    """Return all metrics with percentile bootstrap intervals over the videos.

    The logistic is fitted once, on all videos, and kept in the resamples: the interval is that of a fixed
    mapping. Resamples in which a metric is undefined are left out of its interval.

    Args:
        predicted: (num_videos,) scores, NaN where none was read.
        target: (num_videos,) finite mean opinion scores.
        num_bootstrap: resamples; 0 gives NaN intervals.
        seed: of the resamples.
        confidence: share of the resamples that the interval holds.

    Raises:
        ValueError: if the lists do not fit (see the module) or an option is out of range.

    >>> result = correlations([1, 2, 3, 4, float("nan")], [1.0, 2.5, 2.0, 4.9, 3.0], num_bootstrap=100)
    >>> result.num_videos, result.num_failed, round(result.srcc.value, 4)
    (5, 1, 0.8)
    >>> result.srcc.low <= result.srcc.value <= result.srcc.high
    True
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if num_bootstrap < 0:
        raise ValueError(f"num_bootstrap must not be negative, got {num_bootstrap}")
    num_videos = np.size(target)
    score, mos = _pairs(predicted, target)
    mapped = fit_logistic(score, mos)(score)
    value = _measure(score, mapped, mos)
    rng = np.random.default_rng(seed)
    resamples = np.full((num_bootstrap, len(METRICS)), np.nan)
    for row in resamples if mos.size else []:
        index = rng.integers(mos.size, size=mos.size)
        row[:] = _measure(score[index], mapped[index], mos[index])
    columns = zip(METRICS, value, resamples.T, strict=True)
    estimates = {name: interval(whole, column, confidence) for name, whole, column in columns}
    return Metrics(num_videos=num_videos, num_failed=num_videos - mos.size, **estimates)


def overall(values: Sequence[float], counts: Sequence[int]) -> float:
    """Return the mean of a metric over data sets, weighted by their numbers of videos (arXiv 2508.06051).

    A NaN among the values makes the result NaN: no data set is dropped in silence.

    >>> overall([0.9, 0.8], [3000, 1000])
    0.875
    """
    if len(values) != len(counts):
        raise ValueError(f"{len(values)} values for {len(counts)} counts")
    if min(counts, default=0) <= 0:
        raise ValueError(f"every data set needs a positive number of videos, got {list(counts)}")
    return math.fsum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)


def _pairs(predicted: ArrayLike, target: ArrayLike) -> tuple[FloatArray, FloatArray]:
    score = np.asarray(predicted, dtype=np.float64)
    mos = np.asarray(target, dtype=np.float64)
    if score.ndim != 1 or score.shape != mos.shape:
        raise ValueError(f"expected two lists of one length, got shapes {score.shape} and {mos.shape}")
    if not np.isfinite(mos).all():
        raise ValueError(f"target {int(np.flatnonzero(~np.isfinite(mos))[0])} is not finite")
    if np.isinf(score).any():
        raise ValueError(f"prediction {int(np.flatnonzero(np.isinf(score))[0])} is infinite")
    valid = ~np.isnan(score)
    return score[valid], mos[valid]


def _undefined(*lists: FloatArray) -> bool:
    return any(len(values) < MIN_VIDEOS or values.min() == values.max() for values in lists)


def _measure(score: FloatArray, mapped: FloatArray, mos: FloatArray) -> list[float]:
    """Return the metrics in the order of METRICS."""
    raw = [metric(score, mos) for metric in (srcc, plcc, krcc, rmse)]
    return [*raw, plcc(mapped, mos), rmse(mapped, mos)]


def _standardise(values: FloatArray) -> tuple[FloatArray, float, float]:
    """Return zero-mean, unit-variance values, the mean and the standard deviation; the values must differ."""
    scale = float(np.abs(values).max())
    small = values / scale
    mean = float(small.mean())
    deviation = float(small.std())
    return (small - mean) / deviation, mean * scale, deviation * scale


def interval(value: float, resamples: FloatArray, confidence: float) -> Estimate:
    """A value with the percentile interval of its (resamples,) values, those that are undefined left out."""
    defined = resamples[np.isfinite(resamples)]
    if not defined.size or math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(low), float(high))


def mean_of_answers(
    values: ArrayLike, media: Sequence[object], *, num_bootstrap: int = 1000, seed: int = 0
) -> Estimate:
    """Return the mean of values with a 95 % interval from resamples of media, whose answers go together.

    Where all values are 0 or all 1 resamples have no spread: Wilson's interval for the number of media. Of
    one medium there is none.

    Args:
        values: (N,) points, finite.
        media: what each is about; several answers about one medium are no independent ones.
        num_bootstrap: resamples.
        seed: of the resamples.

    >>> mean_of_answers([1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"]).value
    0.75
    """
    points = np.asarray(values, dtype=np.float64)
    if not points.size:
        return Estimate(math.nan, math.nan, math.nan)
    names = {name: place for place, name in enumerate(dict.fromkeys(media))}
    mean = float(points.mean())
    if len(names) < MIN_CLUSTERS:
        return Estimate(mean, math.nan, math.nan)
    if set(points.tolist()) in ({0.0}, {1.0}):
        wilson = stats.binomtest(round(mean) * len(names), len(names)).proportion_ci(method="wilson")
        return Estimate(mean, float(wilson.low), float(wilson.high))
    cluster = np.array([names[name] for name in media])
    sums = np.bincount(cluster, points)
    counts = np.bincount(cluster)
    drawn = np.random.default_rng(seed).integers(len(names), size=(num_bootstrap, len(names)))
    resamples = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return with_spread(interval(mean, resamples, 0.95))


def with_spread(found: Estimate) -> Estimate:
    """An estimate without an interval where that of its resamples has no width: it would say too much."""
    has_none = math.isclose(found.low, found.high, abs_tol=1e-9)
    return Estimate(found.value, math.nan, math.nan) if has_none else found


def kappa(first: Sequence[int], second: Sequence[int]) -> float:
    """Return Cohen's κ of two raters' grades: 1 − (1 − agreement)/(1 − agreement by chance).

    NaN where both give one and the same grade throughout.

    >>> round(kappa([0, 0, 1, 1], [0, 1, 1, 1]), 3)
    0.5
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} grades: expected as many of each rater")
    grades = sorted({*first, *second})
    one, other = (np.array([[grade == g for g in grades] for grade in rater]) for rater in (first, second))
    if len(grades) < 2:
        return math.nan
    by_chance = float(one.mean(axis=0) @ other.mean(axis=0))
    agreement = float((one & other).any(axis=1).mean())
    return 1 - (1 - agreement) / (1 - by_chance)


def kappa_interval(
    first: Sequence[int], second: Sequence[int], *, num_bootstrap: int = 1000, seed: int = 0
) -> Estimate:
    """Return `kappa` with a 95 % interval from resamples of the answers."""
    pairs = np.array([first, second]).T
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(num_bootstrap, len(pairs)))
    resamples = [kappa(*pairs[rows].T.tolist()) for rows in drawn] if len(pairs) else []
    return with_spread(interval(kappa(first, second) if len(pairs) else math.nan, np.array(resamples), 0.95))
