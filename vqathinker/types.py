"""What travels between the stages of a batch, and what a plug-in must be.

Knows numpy only: no model, no file, no process group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vqathinker import answers

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]


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
    """

    texts: Sequence[Sequence[str]]
    scores: FloatArray
    target: FloatArray
    video_id: Sequence[str]
    dataset: Sequence[str]
    perturbed: RolloutBatch | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        num_videos = len(self.texts)
        num_responses = {len(row) for row in self.texts}
        if len(num_responses) > 1:
            raise ValueError(f"every video needs the same number of responses, got {sorted(num_responses)}")
        shape = (num_videos, num_responses.pop() if num_responses else 0)
        if self.scores.shape != shape:
            raise ValueError(f"scores have shape {self.scores.shape}, the texts {shape}")
        if self.target.shape != (num_videos,):
            raise ValueError(f"target has shape {self.target.shape}, expected ({num_videos},)")
        for name, values in {"video_id": self.video_id, "dataset": self.dataset, **self.columns}.items():
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
                perturbed, target, video_id=video_id, dataset=dataset, columns=columns, think=think
            )
        num_responses = len(texts[0]) if len(texts) else 0
        scores = np.array([[answers.score(text, think=think) for text in row] for row in texts], dtype=np.float64)
        return cls(
            texts=[list(row) for row in texts],
            scores=scores.reshape(len(texts), num_responses),
            target=np.asarray(target, dtype=np.float64),
            video_id=video_id,
            dataset=dataset,
            perturbed=perturbed,
            columns=dict(columns or {}),
        )

    @property
    def num_videos(self) -> int:
        """N, the number of videos."""
        return len(self.texts)

    @property
    def num_responses(self) -> int:
        """K, the number of responses per video."""
        return int(self.scores.shape[1])


@runtime_checkable
class Reward(Protocol):
    """Scores every response of a batch; a pure function of the batch."""

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) finite rewards."""
        ...


@runtime_checkable
class Perturbation(Protocol):
    """Disturbs the order of a video's sampled frames."""

    def __call__(self, num_frames: int, rng: np.random.Generator) -> IndexArray:
        """Return indices into the `num_frames` sampled frames."""
        ...
