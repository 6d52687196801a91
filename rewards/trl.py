"""The bridge to TRL: our rewards in a plain `GRPOTrainer`, and TRL-style functions as rewards here.

Imports neither torch nor TRL; a process group that the trainer has already initialised is used.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rewards.check import evaluate
from vqathinker import plugins
from vqathinker.records import ROW_KEYS, Record, collect
from vqathinker.types import FloatArray, Reward, RolloutBatch


def reward_rows(
    reward: Reward, rows: Sequence[Record], *, name: str, think: bool = True
) -> list[float | None]:
    """Return one reward per row of the global batch, in their order; rows are grouped by their ids.

    None for a row that the reward does not apply to.

    Raises:
        ValueError: if the rows of a video differ in number from another's or in target, or only some have a
            twin text.
    """
    batch, places = collect(rows, think=think)
    if batch is None:
        return []
    values = evaluate(reward, batch, name)
    found = [float(values[places[place]]) for place in range(len(rows))]
    return [None if math.isnan(value) else value for value in found]


def gather(rows: list[Record]) -> tuple[list[Record], int]:
    """Return the rows of all processes in the order of their ranks, and where this process's rows start."""
    if "torch" not in sys.modules:
        return rows, 0
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return rows, 0
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, rows)
    start = sum(len(part) for part in parts[: distributed.get_rank()])
    return [row for part in parts for row in part], start


def _text(completion: str | Sequence[Mapping[str, object]]) -> str:
    """Return the text of a plain or of a conversational completion."""
    if isinstance(completion, str):
        return completion
    return "".join(str(message["content"]) for message in completion if message["role"] == "assistant")


class TrlReward:
    """A reward of ours as TRL calls one: per process, one completion per row, columns as lists."""

    def __init__(self, reward: Reward, columns: Sequence[str] = (), think: bool = True) -> None:
        """Wrap a reward; see `as_trl`."""
        self.reward = reward
        self.columns = tuple(columns)
        self.think = think
        self.needs_perturbed = bool(getattr(reward, "needs_perturbed", False))
        self.__name__ = str(getattr(reward, "__name__", type(reward).__name__))

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        **columns: Any,  # TRL hands over lists and callables
    ) -> list[float | None]:
        """Return one reward for each row of this process.

        Raises:
            ValueError: if a column is missing or the rows do not form equal groups.
        """
        required = ("video_id", *(() if "task" in columns else ("target",)), *self.columns)
        for name in required:
            if name not in columns:
                raise ValueError(f"the data set needs a column {name!r} for the reward {self.__name__!r}")
        read = [name for name in (*ROW_KEYS, *self.columns) if name in columns]
        rows = [
            Record.from_row(dict(zip(read, values, strict=True)), _text(completion))
            for completion, *values in zip(completions, *(columns[name] for name in read), strict=True)
        ]
        everyone, start = gather(rows)
        rewards = reward_rows(self.reward, everyone, name=self.__name__, think=self.think)
        return rewards[start : start + len(rows)]


def as_trl(reward: Reward, *, columns: Sequence[str] = (), think: bool = True) -> TrlReward:
    """Return a reward function for a plain TRL `GRPOTrainer`.

    Rows are grouped by their columns `video_id` and `dataset` (one common data set if there is no such
    column), never by position, over all processes of an initialised process group; so all processes must call
    it in the same step, and a video must be in the global batch once. The column `target` is required, but
    beside a column `task`; `question` and `answer` are read too, for rewards of other tasks. A column
    `twin_text` holds one response to the perturbed video per row.

    Args:
        reward: any reward of this package or a callable of the same kind.
        columns: further columns that the reward reads from `batch.columns`.
        think: False also reads responses without a think block.

    >>> from rewards.threshold import ThresholdReward
    >>> text = "<think>sharp</think><answer>4.00</answer>"
    >>> as_trl(ThresholdReward())(["", ""], [text, "4.00"], video_id=["a", "a"], target=[4.1, 4.1])
    [1.0, 0.0]
    """
    return TrlReward(reward, columns, think)


class FromTrl:
    """A TRL-style function `f(prompts, completions, **columns) -> list[float]` as a reward.

    It gets N·K rows, video by video: the batch's columns, `video_id`, `dataset`, `target`, `task`,
    `question`, `answer` (a right one, where there is one) and, with twins, `twin_text`. It asks for twins
    with a parameter of that name or an attribute `needs_perturbed`. `prompts` are the batch's column
    "prompt", or empty strings. A None among the returned values leaves its row out of
    this reward's part of the sum, as in TRL; such entries are masked in the array that a call returns.
    """

    def __init__(self, function: Callable[..., Any] | str, conversational: bool = False) -> None:
        """Wrap a function.

        Args:
            function: the function or its dotted path "package.module:name".
            conversational: hand completions over as `[{"role": "assistant", "content": text}]` instead of
                strings.
        """
        self.function: Callable[..., Any] = (
            plugins.import_path(function) if isinstance(function, str) else function
        )
        self.conversational = conversational
        self.needs_perturbed = bool(getattr(self.function, "needs_perturbed", False)) or _takes_twins(
            self.function
        )
        self.__name__ = str(getattr(self.function, "__name__", type(self.function).__name__))
        # what the function, or a recipe, declares of it
        for name in ("tasks", "datasets", "min_videos", "runs_once"):
            if hasattr(self.function, name):
                setattr(self, name, getattr(self.function, name))

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards, masked where the function returned None.

        Raises:
            ValueError: if the function returns no list, or another number of values.
        """
        num_responses = batch.num_responses
        columns = {
            **batch.columns,
            "video_id": batch.video_id,
            "dataset": batch.dataset,
            "target": batch.target.tolist(),
            "task": batch.task,
            "question": batch.question,
            "answer": batch.reference,
        }
        rows = {
            name: [value for value in values for _ in range(num_responses)]
            for name, values in columns.items()
        }
        texts: list[Any] = [text for row in batch.texts for text in row]
        if batch.perturbed is not None:
            rows["twin_text"] = [text for row in batch.perturbed.texts for text in row]
        if self.conversational:
            texts = [[{"role": "assistant", "content": text}] for text in texts]
        prompts = rows.pop("prompt", [""] * len(texts))
        returned = self.function(prompts=prompts, completions=texts, **rows)
        if not isinstance(returned, Iterable):
            raise ValueError(f"{self.__name__!r} returned {returned!r} instead of a list of rewards")
        values = list(returned)
        if len(values) != len(texts):
            raise ValueError(f"{self.__name__!r} returned {len(values)} rewards for {len(texts)} completions")
        left_out = np.array([value is None for value in values], dtype=np.bool_)
        numbers = np.array([0.0 if value is None else value for value in values], dtype=np.float64)
        shape = batch.scores.shape
        if left_out.any():
            masked: FloatArray = np.ma.array(  # type: ignore[no-untyped-call]
                numbers.reshape(shape), mask=left_out.reshape(shape)
            )
            return masked
        return numbers.reshape(shape)


def _takes_twins(function: Callable[..., Any]) -> bool:
    try:
        return "twin_text" in inspect.signature(function).parameters
    except ValueError:  # some built-in callables have no signature
        return False


def from_trl(function: Callable[..., Any], *, conversational: bool = False) -> FromTrl:
    """Return a TRL-style function as a reward; in a recipe `{name: "rewards.trl:FromTrl", function: "m:f"}`.

    >>> reward = from_trl(lambda completions, **columns: [float(len(text)) for text in completions])
    >>> reward(RolloutBatch.from_texts([["a", "abc"]], [3.0]))
    array([[1., 3.]])
    """
    return FromTrl(function, conversational)
