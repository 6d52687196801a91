"""What a row of a generation batch is, and the order of rows: whole groups, by seed and epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler

from vqathinker.rollout.encoder import EncodedVideo

Row = dict[str, Any]
FEATURE_NDIM = 3  # of frame features (T, n, d)


@dataclass(frozen=True)
class RowResponse:
    """What one row of the generation batch produced.

    Attributes:
        prompt_ids: token ids with expanded placeholders.
        token_ids: the response.
        logprobs: one per token, at the sampling temperature.
        twin_text: the response to the perturbed copy, None without twins.
    """

    prompt_ids: Sequence[int]
    token_ids: Sequence[int]
    logprobs: Sequence[float]
    twin_text: str | None = None


@dataclass(frozen=True, eq=False)
class VideoInputs:
    """What a forward pass needs of one video.

    Attributes:
        frames: pixels (T, 3, S, S), or features (T, n, d) where neither vision tower nor projector learns.
        motion_features: (M, motion_dim).
        skipped: whether it could not be read.
    """

    frames: Tensor
    motion_features: Tensor
    skipped: bool = False

    @classmethod
    def of(cls, video: EncodedVideo, *, skipped: bool, trains_vision: bool) -> VideoInputs:
        """What the rollout knows of a video."""
        frames = video.pixels if trains_vision else video.frame_features
        return cls(frames, video.motion_features, skipped)

    @staticmethod
    def together(videos: Sequence[VideoInputs]) -> dict[str, Tensor]:
        """What the model's forward pass takes of some videos, which are all pixels or all features."""
        name = "frame_features" if videos[0].frames.ndim == FEATURE_NDIM else "pixel_values"
        # a picture has no motion
        motion = [video.motion_features for video in videos if len(video.motion_features)]
        inputs = {"motion_features": torch.stack(motion) if motion else videos[0].motion_features[None]}
        is_row_by_row = len({id(video) for video in videos}) < len(videos)
        if is_row_by_row:  # rows of one group that are not packed have its frames each
            return inputs | {name: torch.cat([video.frames for video in videos])}
        frames, order = _distinct_frames(videos)
        inputs[name] = frames
        return inputs if order is None else inputs | {"frame_order": order}


def _distinct_frames(videos: Sequence[VideoInputs]) -> tuple[Tensor, Tensor | None]:
    """Frames that samples of one file share once, and where each sample finds its own; None for in order."""
    starts: dict[int, int] = {}
    distinct: list[Tensor] = []
    for video in videos:
        if id(video.frames) not in starts:
            starts[id(video.frames)] = sum(map(len, distinct))
            distinct.append(video.frames)
    frames = torch.cat(distinct)
    if len(distinct) == len(videos):
        return frames, None
    places = [starts[id(video.frames)] + torch.arange(len(video.frames)) for video in videos]
    return frames, torch.cat(places).to(frames.device)


class EpochOrder(Sampler[int]):
    """TRL's sampler, shuffled by seed and epoch alone, so that a resumed run goes on with the same videos.

    Args:
        sampler: repeats the rows of a batch; its own generator starts again with every process.
        seed: of the run.
        epoch: tells how many epochs have passed.
    """

    def __init__(self, sampler: RepeatSampler, seed: int, epoch: Callable[[], float]) -> None:
        self.sampler = sampler
        self.seed = seed
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.sampler.shuffle:
            whole_epochs = int(self.epoch() + 1e-6)  # a sum of fractions
            self.sampler.generator.manual_seed(self.seed + whole_epochs)
        yield from self.sampler

    def __len__(self) -> int:
        return len(self.sampler)


def arrange(
    groups: Sequence[int], num_tokens: Tensor, rows_per_step: int, generator: torch.Generator
) -> Tensor:
    """A permutation of rows that keeps every group together and groups of like length near one another.

    Groups are shuffled over the optimiser steps and sorted within each, the longest first, so that the
    micro-batches of a step hold little padding.

    Args:
        groups: B group numbers.
        num_tokens: (B,), their sums over a group are its length.
        rows_per_step: rows that an optimiser step takes.
        generator: shuffles.

    Returns:
        (B,) row indices.

    >>> arrange([7, 7, 3, 3], torch.tensor([1, 2, 4, 3]), 4, torch.Generator()).tolist()
    [2, 3, 0, 1]
    """
    rows = torch.tensor(groups)
    names = list(dict.fromkeys(groups))
    order = torch.randperm(len(names), generator=generator).tolist()
    members = [(rows == names[i]).nonzero()[:, 0] for i in order]
    steps = [start // rows_per_step for start in accumulate(map(len, members), initial=0)]
    num_tokens = num_tokens.cpu()
    lengths = [num_tokens[part].sum().item() for part in members]
    ranks = sorted(range(len(members)), key=lambda i: (steps[i], -lengths[i]))
    return torch.cat([members[i] for i in ranks])


def group_numbers(videos: Sequence[VideoInputs]) -> list[int]:
    """Rows that share a video object share a number, counted in order of appearance."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(id(video), len(numbers)) for video in videos]


def take(values: Any, order: Tensor) -> Any:  # noqa: ANN401  tensors, lists and what TRL may add
    """Rows in another order; scalars stay."""
    if isinstance(values, Tensor):
        return values if values.ndim == 0 else values[order.to(values.device)]
    return [values[int(i)] for i in order] if isinstance(values, list) else values
