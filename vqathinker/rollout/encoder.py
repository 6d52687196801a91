"""Vision once per video: what the engines and the training step share.

A perturbed copy re-uses its original's frame features by index; only its motion feature is computed anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vqathinker.model import FrameSetting, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout.engine import RolloutRequest
from vqathinker.rollout.motion_cache import MotionCache
from vqathinker.types import Shown

logger = logging.getLogger(__name__)

FRAMES_PER_CALL = 96


@dataclass(frozen=True)
class EncodedVideo:
    """One video as the model sees it.

    Attributes:
        pixels: (T, 3, S, S) normalised frames.
        frame_features: (T, n, d) vision tokens, without gradient.
        motion_features: (M, motion_dim) frozen SlowFast features; M is 0 for a picture.
        is_image: whether its one frame is a picture.
    """

    pixels: Tensor
    frame_features: Tensor
    motion_features: Tensor
    is_image: bool = False


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Compute as in scoring, whatever mode the model is in; it is in that mode again afterwards."""
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)


class VideoEncoder:
    """Runs the vision tower and SlowFast over videos, without gradient.

    Args:
        model: the policy (unwrapped).
        processor: gives frame transform and prompt.
        setting: number and size of the frames.
        motion_cache: keeps the motion features of files.
    """

    def __init__(
        self,
        model: VQAThinkerForConditionalGeneration,
        processor: VQAThinkerProcessor,
        setting: FrameSetting,
        *,
        motion_cache: MotionCache | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.setting = setting
        self.motion_cache = motion_cache
        self.num_encoded_frames = 0

    def encode(self, videos: Sequence[NDArray[np.uint8]], images: Sequence[bool] = ()) -> list[EncodedVideo]:
        """Encode N arrays (T, H, W, 3) of sampled uint8 frames; N may be 0.

        Args:
            videos: the frames.
            images: which of them are pictures; none if omitted.
        """
        pixels = [self.processor.pixels(video, self.setting.size) for video in videos]
        return self.encode_pixels(pixels, [None] * len(pixels), images)

    @torch.no_grad()
    def encode_pixels(
        self, pixels: Sequence[Tensor], places: Sequence[Path | None], images: Sequence[bool] = ()
    ) -> list[EncodedVideo]:
        """Encode N tensors (T, 3, S, S) of normalised frames.

        Args:
            pixels: the videos; N may be 0.
            places: where the motion cache keeps the motion feature of each; None for nowhere.
            images: which of them are pictures; none if omitted.
        """
        if not pixels:
            return []
        images = images or [False] * len(pixels)
        pixels = [video.to(self.model.device) for video in pixels]
        frames = self._frame_features(pixels)
        nothing = torch.zeros(0, self.model.config.motion_dim, device=self.model.device)
        motion = [
            nothing if is_image else self._kept_motion(video, place)
            for video, place, is_image in zip(pixels, places, images, strict=True)
        ]
        return [EncodedVideo(*parts) for parts in zip(pixels, frames, motion, images, strict=True)]

    @torch.no_grad()
    def perturb(
        self, videos: Sequence[EncodedVideo], indices: Iterable[NDArray[np.int64]]
    ) -> list[EncodedVideo]:
        """Reorder the frames of N encoded videos; only the motion features are computed."""
        chosen = [torch.from_numpy(index).to(self.model.device) for index in indices]
        pixels = [video.pixels[index] for video, index in zip(videos, chosen, strict=True)]
        frames = [video.frame_features[index] for video, index in zip(videos, chosen, strict=True)]
        motion = [self._motion_features(video) for video in pixels]
        return [EncodedVideo(*parts) for parts in zip(pixels, frames, motion, strict=True)]

    @torch.no_grad()
    def request(
        self,
        video: EncodedVideo,
        cache_key: str,
        question: str | None = None,
        beside: EncodedVideo | None = None,
    ) -> RolloutRequest:
        """The prompt of one encoded video or two, their features in the order of the placeholders.

        Args:
            video: as encoded.
            cache_key: names the media; the same for several questions about them.
            question: what is asked; the prompt's own if omitted.
            beside: a second video, shown after the first.
        """
        num_frames, tokens_per_frame, width = video.frame_features.shape
        shown = [video] if beside is None else [video, beside]
        ids = self.processor.prompt_ids(
            num_frames,
            tokens_per_frame,
            question=question,
            is_image=video.is_image,
            beside=None if beside is None else Shown(len(beside.frame_features), beside.is_image),
        )
        image_id, motion_id = self.processor.placeholder_ids
        marks = torch.tensor([i for i in ids if i in (image_id, motion_id)], device=self.model.device)
        embeds = video.frame_features.new_empty(len(marks), width)
        embeds[marks == image_id] = torch.cat([one.frame_features.flatten(0, 1) for one in shown])
        motion = [self._projected(one) for one in shown if len(one.motion_features)]
        if motion:
            embeds[marks == motion_id] = torch.cat(motion).to(embeds.dtype)
        return RolloutRequest(ids, embeds, cache_key)

    def _projected(self, video: EncodedVideo) -> Tensor:
        """Motion features (M, d) as the language model takes them."""
        features: Tensor = self.model.model.motion_projector(video.motion_features[None])[0]
        return features

    def _frame_features(self, pixels: Sequence[Tensor]) -> list[Tensor]:
        stacked = torch.cat(list(pixels))
        self.num_encoded_frames += len(stacked)
        with without_dropout(self.model):
            features = torch.cat(
                [self.model.model.frame_features(part) for part in stacked.split(FRAMES_PER_CALL)]
            )
        return list(features.split([len(video) for video in pixels]))

    def _motion_features(self, pixels: Tensor) -> Tensor:
        """SlowFast over one video at a time, so that the result does not depend on its company."""
        features: Tensor = self.model.model.motion_features(pixels[None])[0]
        return features

    def _kept_motion(self, pixels: Tensor, place: Path | None) -> Tensor:
        """The motion features of a file: kept ones, or computed and kept."""
        if self.motion_cache is None or place is None:
            return self._motion_features(pixels)
        kept = self.motion_cache.get(place)
        if kept is not None:
            return kept.to(pixels.device)
        features = self._motion_features(pixels)
        if self.motion_cache.is_writable:
            try:
                self.motion_cache.put(place, features)
            except OSError as error:
                logger.warning("motion features are not kept any more: %s", error)
                self.motion_cache.is_writable = False
        return features
