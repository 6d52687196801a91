"""What travels between the stages of a batch, and what a plug-in must be.

Knows numpy only: no model, no file, no process group.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vqathinker import answers
from vqathinker.samples import SCORE
from vqathinker.scale import FloatArray as FloatArray

IndexArray = NDArray[np.int64]
T = TypeVar("T")
PIXELS_PER_TOKEN = 28  # a 14-pixel patch, halved in both directions by pixel shuffle


@dataclass(frozen=True)
class FrameSetting:
    """How many keyframes of which square size (pixels) the model sees."""

    num_frames: int
    size: int

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"num_frames={self.num_frames}: a video needs at least one frame")
        if self.size < PIXELS_PER_TOKEN or self.size % PIXELS_PER_TOKEN:
            raise ValueError(f"frame size {self.size} is not a multiple of {PIXELS_PER_TOKEN} pixels")

    @property
    def tokens_per_frame(self) -> int:
        """(size/28)²: 256 at 448, 400 at 560."""
        return (self.size // PIXELS_PER_TOKEN) ** 2


@dataclass(frozen=True)
class Shown:
    """A medium in a prompt.

    Attributes:
        num_frames: of its frames that are shown.
        is_image: whether its one frame is a picture.
    """

    num_frames: int
    is_image: bool = False


class RunStopped(RuntimeError):
    """A run ends for a reason that lies in its data, its settings or its machines; the message says which."""


@dataclass(frozen=True)
class RolloutBatch:
    """K responses for each of the N videos of the global generation batch.

    Attributes:
        texts: N lists of K response texts.
        scores: (N, K) scores read from the texts, NaN where a response does not parse.
        target: (N,) mean opinion scores on the prompt's 1-5 scale.
        video_id: N names, unique together with `dataset`.
        dataset: N data set names; only videos of the same data set are compared with one another.
        perturbed: the same videos in the same order, answered for their perturbed copies; None without twins.
        columns: every other data set column, N values each.
        task: N tasks; "score" for all if omitted.
        question: N questions, None where the checkpoint's own was asked; for all if omitted.
        reference: N texts of a right answer, None where there is none; for all if omitted.
        has_twin: (N,) whether a perturbed copy was answered, all where there are twins if omitted. The texts
            of the others in `perturbed` are empty.

    A row is a sample: what is asked of a video. `video_id` is the sample's id, and one video may be asked
    several questions.
    """

    texts: Sequence[Sequence[str]]
    scores: FloatArray
    target: FloatArray
    video_id: Sequence[str]
    dataset: Sequence[str]
    perturbed: RolloutBatch | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    task: Sequence[str] = ()
    question: Sequence[str | None] = ()
    reference: Sequence[str | None] = ()
    has_twin: NDArray[np.bool_] | None = None
    _derived: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        num_videos = len(self.texts)
        shape = (num_videos, _num_responses(self.texts))
        if self.scores.shape != shape:
            raise ValueError(f"scores have shape {self.scores.shape}, the texts {shape}")
        if self.target.shape != (num_videos,):
            raise ValueError(f"target has shape {self.target.shape}, expected ({num_videos},)")
        for name, value in (("task", SCORE), ("question", None), ("reference", None)):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, [value] * num_videos)
        if self.has_twin is None:
            object.__setattr__(self, "has_twin", np.full(num_videos, self.perturbed is not None))
        own = ("video_id", "dataset", "task", "question", "reference", "has_twin")
        for name, values in {**{name: getattr(self, name) for name in own}, **self.columns}.items():
            if len(values) != num_videos:
                raise ValueError(f"{name} has {len(values)} values for {num_videos} videos")
        if self.perturbed is not None and list(self.perturbed.video_id) != list(self.video_id):
            raise ValueError("the perturbed batch must hold the same videos in the same order")

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[Sequence[str]],
        target: Sequence[float] | FloatArray,
        *,
        video_id: Sequence[str] | None = None,
        dataset: Sequence[str] | None = None,
        perturbed: RolloutBatch | Sequence[Sequence[str]] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        think: bool = True,
        **others: Any,
    ) -> RolloutBatch:
        """Parse every response once and build the batch.

        Args:
            texts: N lists of K response texts.
            target: N mean opinion scores on the prompt's scale.
            video_id: N names; "0" ... "N-1" if omitted.
            dataset: N data set names; one common name if omitted.
            perturbed: a batch for the perturbed copies, or their N lists of response texts.
            columns: further data set columns, N values each.
            think: False also reads responses without a think block (the "no reasoning" ablation).
            others: `task`, `question`, `reference` and `has_twin`, as the class takes them.

        Raises:
            ValueError: if the lengths do not fit together or two videos share a name within one data set.

        >>> RolloutBatch.from_texts([["<think>sharp</think><answer>4.10</answer>", "4.1"]], [4.0]).scores
        array([[4.1, nan]])
        """
        video_id = [str(i) for i in range(len(texts))] if video_id is None else list(video_id)
        dataset = [""] * len(texts) if dataset is None else list(dataset)
        if len(set(zip(dataset, video_id, strict=True))) < len(texts):
            raise ValueError("two videos of one data set share a video_id")
        if perturbed is not None and not isinstance(perturbed, RolloutBatch):
            perturbed = cls.from_texts(
                perturbed, target, video_id=video_id, dataset=dataset, columns=columns, think=think, **others
            )
        scores = [answers.score(text, think=think) for row in texts for text in row]
        return cls(
            texts=[list(row) for row in texts],
            scores=np.array(scores, dtype=np.float64).reshape(len(texts), _num_responses(texts)),
            target=np.asarray(target, dtype=np.float64),
            video_id=video_id,
            dataset=dataset,
            perturbed=perturbed,
            columns=dict(columns or {}),
            **others,
        )

    def select(self, rows: Sequence[int]) -> RolloutBatch:
        """The batch of some of the rows, in their order; the batch itself for all of them.

        >>> batch = RolloutBatch.from_texts([["1"], ["2"]], [1.0, 2.0])
        >>> batch.select([1]).video_id, batch.select([0, 1]) is batch
        (['1'], True)
        """
        if list(rows) == list(range(self.num_videos)):
            return self
        # what several plug-ins select is made once, and so is what they derive from it
        return self.derived(("vqathinker.rows", *rows), lambda: self._rows(rows))

    def _rows(self, rows: Sequence[int]) -> RolloutBatch:
        def take(values: Sequence[T]) -> list[T]:
            return [values[row] for row in rows]

        assert self.has_twin is not None  # set when it was made
        index = list(rows)
        has_twin = self.has_twin[index]
        return RolloutBatch(
            texts=take(self.texts),
            scores=self.scores[index],
            target=self.target[index],
            video_id=take(self.video_id),
            dataset=take(self.dataset),
            perturbed=self.perturbed.select(index) if self.perturbed and has_twin.any() else None,
            columns={name: take(values) for name, values in self.columns.items()},
            task=take(self.task),
            question=take(self.question),
            reference=take(self.reference),
            has_twin=has_twin,
        )

    def derived(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`, computed at the first call for `key` and then remembered.

        For what several plug-ins need of one batch. Copies of the batch start without it, pickled ones too.

        Args:
            key: names the value among all plug-ins' values, its parameters included.
            compute: a pure function of this batch; nobody may change what it returns.

        >>> batch = RolloutBatch.from_texts([["4.1"]], [4.0])
        >>> batch.derived("lengths", lambda: [3]) is batch.derived("lengths", lambda: [3])
        True
        """
        if key not in self._derived:
            self._derived[key] = compute()
        value: T = self._derived[key]
        return value

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_derived": {}}

    @property
    def num_videos(self) -> int:
        """N, the number of videos."""
        return len(self.texts)

    @property
    def num_responses(self) -> int:
        """K, the number of responses per video."""
        return int(self.scores.shape[1])


def _num_responses(texts: Sequence[Sequence[str]]) -> int:
    lengths = {len(row) for row in texts}
    if len(lengths) > 1:
        raise ValueError(f"every video needs the same number of responses, got {sorted(lengths)}")
    return lengths.pop() if lengths else 0


@runtime_checkable
class Reward(Protocol):
    """Scores every response of a batch; a pure function of the batch.

    A reward may also have, and the trainer then reads:

    * `min_videos: int` – the fewest videos in the global batch that it can compare (1 if absent);
    * `needs_perturbed: bool` – whether it reads `batch.perturbed` (False if absent). Perturbed copies are
      generated only where a reward says so; otherwise it is None;
    * `tasks: Collection[str]`, `datasets: Collection[str]` – whose samples it is for (all if absent). It is
      called with their rows alone, and has no part in the sum of the others; nor has one that needs perturbed
      copies in the sum of a row without (`has_twin`), whatever it returns for it;
    * `runs_once: bool` – whether one process calls it for all (False if absent), as one that asks a server;
    * `metrics(batch) -> dict[str, float]` – numbers to log beside the rewards of the same batch.
    """

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) finite rewards."""
        ...


@runtime_checkable
class Perturbation(Protocol):
    """Disturbs the order of a video's sampled frames."""

    def __call__(self, num_frames: int, rng: np.random.Generator) -> IndexArray:
        """Return indices into the `num_frames` sampled frames."""
        ...
