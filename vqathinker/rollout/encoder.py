"""Vision once per video: what the engines and the training step share.

A perturbed copy re-uses its original's frame features by index; only its motion feature is computed anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vqathinker.model import FrameSetting, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout.engine import RolloutRequest

FRAMES_PER_CALL = 96


@dataclass(frozen=True)
class EncodedVideo:
    """One video as the model sees it.

    Attributes:
        pixels: (T, 3, S, S) normalised frames.
        frame_features: (T, n, d) vision tokens, without gradient.
        motion_features: (M, motion_dim) frozen SlowFast features.
    """

    pixels: Tensor
    frame_features: Tensor
    motion_features: Tensor


class VideoEncoder:
    """Runs the vision tower and SlowFast over videos, without gradient.

    Args:
        model: the policy (unwrapped).
        processor: gives frame transform and prompt.
        setting: number and size of the frames.
        question: replaces the prompt's own question.
    """

    def __init__(
        self,
        model: VQAThinkerForConditionalGeneration,
        processor: VQAThinkerProcessor,
        setting: FrameSetting,
        *,
        question: str | None = None,
    ) -> None:
        self.model, self.processor, self.setting, self.question = model, processor, setting, question
        self.num_encoded_frames = 0

    @torch.no_grad()
    def encode(self, videos: Sequence[NDArray[np.uint8]]) -> list[EncodedVideo]:
        """Encode N arrays (T, H, W, 3) of sampled uint8 frames; N may be 0."""
        if not videos:
            return []
        device = self.model.device
        pixels = [self.processor.pixels(video, self.setting.size).to(device) for video in videos]
        frames = self._frame_features(pixels)
        motion = self._motion_features(pixels)
        return [EncodedVideo(*parts) for parts in zip(pixels, frames, motion, strict=True)]

    @torch.no_grad()
    def perturb(
        self, videos: Sequence[EncodedVideo], indices: Iterable[NDArray[np.int64]]
    ) -> list[EncodedVideo]:
        """Reorder the frames of N encoded videos; only the motion features are computed."""
        chosen = [torch.from_numpy(index).to(self.model.device) for index in indices]
        pixels = [video.pixels[index] for video, index in zip(videos, chosen, strict=True)]
        frames = [video.frame_features[index] for video, index in zip(videos, chosen, strict=True)]
        motion = self._motion_features(pixels)
        return [EncodedVideo(*parts) for parts in zip(pixels, frames, motion, strict=True)]

    @torch.no_grad()
    def request(self, video: EncodedVideo, cache_key: str) -> RolloutRequest:
        """The prompt of one encoded video, its features in the order of the placeholders."""
        num_frames, tokens_per_frame, width = video.frame_features.shape
        ids = self.processor.prompt_ids(num_frames, tokens_per_frame, question=self.question)
        image_id, motion_id = self.processor.placeholder_ids
        marks = torch.tensor([i for i in ids if i in (image_id, motion_id)], device=self.model.device)
        embeds = video.frame_features.new_empty(len(marks), width)
        embeds[marks == image_id] = video.frame_features.flatten(0, 1)
        if len(video.motion_features):
            projected = self.model.model.motion_projector(video.motion_features[None])[0]
            embeds[marks == motion_id] = projected.to(embeds.dtype)
        return RolloutRequest(ids, embeds, cache_key)

    def _frame_features(self, pixels: Sequence[Tensor]) -> list[Tensor]:
        stacked = torch.cat(list(pixels))
        self.num_encoded_frames += len(stacked)
        features = torch.cat(
            [self.model.model.frame_features(part) for part in stacked.split(FRAMES_PER_CALL)]
        )
        return list(features.split([len(video) for video in pixels]))

    def _motion_features(self, pixels: Sequence[Tensor]) -> list[Tensor]:
        """SlowFast over videos of equal length together."""
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, video in enumerate(pixels):
            by_length[len(video)].append(i)
        features: dict[int, Tensor] = {}
        for length, rows in by_length.items():
            step = max(1, FRAMES_PER_CALL // length)
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                values = self.model.model.motion_features(torch.stack([pixels[i] for i in part]))
                features.update(zip(part, values, strict=True))
        return [features[i] for i in range(len(pixels))]
