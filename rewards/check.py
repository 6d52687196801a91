"""The call of a reward that cannot go wrong silently."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vqathinker.types import FloatArray, Reward, RolloutBatch

NO_SCORE = "; its score is NaN, as it is wherever a response has none: give it a value, e.g. by np.nan_to_num"


def evaluate(reward: Reward, batch: RolloutBatch, name: str) -> FloatArray:
    """Return `reward(batch)` as float64 (N, K) if it is finite and of that shape.

    A reward that declares tasks or data sets is called with their rows; the others are NaN, and so are masked
    entries of a `numpy.ma.MaskedArray`: responses that the reward does not apply to. One that needs perturbed
    copies is called with rows without one too, since it may compare videos with one another; what it returns
    for them is NaN. NaN is left out of the weighted sum.

    Args:
        reward: the reward.
        batch: its input.
        name: what the messages call it.

    Raises:
        RuntimeError: if the reward raises; names it and the batch's videos, and keeps the cause.
        ValueError: if it returns something else than N×K finite numbers.
    """
    values = np.full(batch.scores.shape, np.nan)
    rows = _rows_for(reward, batch)
    counted = rows_of(reward, batch)
    if counted:
        is_counted = np.isin(rows, counted)
        values[counted] = _evaluate(reward, batch.select(rows), name, is_counted)[is_counted]
    return values


def rows_of(reward: Reward, batch: RolloutBatch) -> list[int]:
    """The rows that a reward is for."""
    rows = _rows_for(reward, batch)
    if getattr(reward, "needs_perturbed", False) and batch.perturbed is not None:
        rows = [row for row in rows if batch.has_twin is not None and batch.has_twin[row]]
    return rows


def _rows_for(reward: Reward, batch: RolloutBatch) -> list[int]:
    """The rows of the tasks and data sets that a reward is for."""
    told = [(batch.task, getattr(reward, "tasks", None)), (batch.dataset, getattr(reward, "datasets", None))]
    return [
        row
        for row in range(batch.num_videos)
        if all(wanted is None or values[row] in wanted for values, wanted in told)
    ]


def metrics_of(reward: Reward, batch: RolloutBatch, name: str) -> dict[str, float]:
    """What a reward reports of the rows that it is called with; nothing if it has no method `metrics`.

    Raises:
        RuntimeError: if it raises; names it and keeps the cause.
    """
    measure = getattr(reward, "metrics", None)
    if measure is None or not rows_of(reward, batch):
        return {}
    try:
        return dict(measure(batch.select(_rows_for(reward, batch))))
    except Exception as error:  # foreign code, as in a call of the reward
        raise RuntimeError(f"the metrics of reward {name!r} failed: {error!r}") from error


def _evaluate(reward: Reward, batch: RolloutBatch, name: str, is_counted: NDArray[np.bool_]) -> FloatArray:
    """As `evaluate`, of a batch of whose rows (N,) some are counted."""
    videos = list(batch.video_id)
    try:
        result = reward(batch)
        values = np.asarray(result)
    except Exception as error:  # foreign code may raise anything; the run still stops, now with a name
        raise RuntimeError(f"reward {name!r} failed on the videos {videos}: {error!r}") from error
    if values.shape != batch.scores.shape:
        raise ValueError(
            f"reward {name!r} returned shape {values.shape} instead of {batch.scores.shape}, a row for each "
            f"video and a column for each of its responses; the videos are {videos}"
        )
    if values.dtype.kind not in "fiub":
        raise ValueError(
            f"reward {name!r} returned {values.dtype} values instead of numbers for the videos {videos}"
        )
    is_left_out = result.mask if isinstance(result, np.ma.MaskedArray) else False
    bad = np.argwhere(~np.isfinite(values) & np.logical_not(is_left_out) & is_counted[:, None])
    if len(bad):
        video, response = bad[0]
        raise ValueError(
            f"reward {name!r} returned {len(bad)} values that are not finite, the first, "
            f"{values[video, response]}, for response {response} of the video {batch.video_id[video]!r}"
            + (NO_SCORE if np.isnan(batch.scores[video, response]) else "")
        )
    return np.where(is_left_out, np.nan, values.astype(np.float64))


def left_out(rewards: FloatArray) -> FloatArray:
    """The rewards (N, K) of a plug-in, NaN where a response is left out, as `evaluate` takes them."""
    masked: FloatArray = np.ma.masked_invalid(rewards)  # type: ignore[no-untyped-call]
    return masked
