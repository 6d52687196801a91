"""The policy as a vLLM model: InternVL with the motion branch, for serving and for rollouts.

Read against vLLM 0.31, which runs InternVL in the Hugging Face format by its class InternS1. `vllm_plugin`
makes it known. A prompt holds one placeholder token where the video goes. A served video is a file (or its
frames): keyframes are chosen here, vision tower and SlowFast run inside. A rollout's video is a block of
precomputed embeddings, and the request says in `mm_processor_kwargs` which ids stand there, so that vLLM sees
exactly the trainer's prompt.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BatchFeature
from vllm.config import VllmConfig
from vllm.model_executor.models.interns1 import (
    InternS1DummyInputsBuilder,
    InternS1ForConditionalGeneration,
    InternS1ProcessingInfo,
)
from vllm.model_executor.models.utils import WeightsMapper
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import MultiModalDataItems, VideoEmbeddingItems
from vllm.multimodal.processing import (
    BaseMultiModalProcessor,
    PromptReplacement,
    PromptUpdate,
    PromptUpdateDetails,
)

from vqathinker.media.video import VideoError, keyframe_indices, read_keyframes
from vqathinker.model import VQAThinkerConfig, VQAThinkerProcessor
from vqathinker.model.modeling import MotionProjector
from vqathinker.model.slowfast import SlowFast
from vqathinker.prompts import Prompt
from vqathinker.rollout.vllm_plugin import SPAN

VIDEO_TOKEN = "<video>"  # what the chat templates of published InternVL checkpoints write


def keyframes(video: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """(T, H, W, 3) keyframes of an encoded file (number of bytes,) or of decoded frames (F, H, W, 3).

    Raises:
        ValueError: if the file cannot be used.
    """
    if video.ndim == 4:
        return video[keyframe_indices(len(video), number)]
    with tempfile.NamedTemporaryFile(prefix="vqathinker-") as file:
        file.write(video.tobytes())
        file.flush()
        try:
            return read_keyframes(file.name, number).frames
        except VideoError as error:
            raise ValueError(f"the video of the request cannot be used: {error.reason}") from error


class ProcessingInfo(InternS1ProcessingInfo):  # type: ignore[misc]
    """What vLLM asks about the model's inputs: one video per prompt."""

    def get_hf_processor(self, **kwargs: object) -> VQAThinkerProcessor:
        """The checkpoint's processor, whatever a request says."""
        processor: VQAThinkerProcessor = self.ctx.get_hf_processor(VQAThinkerProcessor)
        return processor

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """One video, no images."""
        return {"video": 1}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """The tokens of a video in the larger of the two settings, frames and motion."""
        processor = self.get_hf_processor()
        settings = (processor.training, processor.scoring)
        return {"video": max(s.num_frames * (s.tokens_per_frame + 1) + 1 for s in settings)}


class DummyInputsBuilder(InternS1DummyInputsBuilder):  # type: ignore[misc]
    """Inputs for vLLM's start-up measurement of memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """One placeholder per video."""
        processor = self.info.get_hf_processor()
        return str(processor.tokenizer.decode(processor.placeholder_ids[0])) * mm_counts.get("video", 0)

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Black frames as scoring takes them."""
        setting = self.info.get_hf_processor().scoring
        frames = np.zeros((setting.num_frames, setting.size, setting.size, 3), np.uint8)
        return {"video": [frames] * mm_counts.get("video", 0)}


class InputProcessor(BaseMultiModalProcessor):  # type: ignore[misc]
    """Turns videos into pixels, and their placeholder into the ids of the visual part."""

    def _call_hf_processor(self, hf_data: Mapping[str, Any], hf_kwargs: Mapping[str, object]) -> BatchFeature:
        processor = self.info.get_hf_processor()
        setting = processor.scoring
        videos = [
            processor.pixels(keyframes(video, setting.num_frames), setting.size)
            for video in hf_data["videos"]
        ]
        return BatchFeature({"pixel_values_videos": torch.stack(videos)})

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return dict.fromkeys(("pixel_values_videos", "video_embeds"), MultiModalFieldConfig.batched("video"))

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, Any],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        processor = self.info.get_hf_processor()
        marks = list(processor.placeholder_ids)
        span = hf_processor_mm_kwargs.get(SPAN)
        if span is None:
            if isinstance(mm_items.get("video"), VideoEmbeddingItems):
                raise ValueError(
                    f"embeddings need {SPAN!r} in mm_processor_kwargs: the ids up to the end of the video"
                )
            text = processor.visual_text(processor.scoring.num_frames, processor.scoring.tokens_per_frame)
            text = text.removesuffix(Prompt.from_dict(processor.prompt).separator)
            span = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        replacement = PromptUpdateDetails.select_token_ids(list(span), marks)
        return [
            PromptReplacement(modality="video", target=[target], replacement=lambda _: replacement)
            for target in self._targets
        ]

    @cached_property
    def _targets(self) -> list[int]:
        """The ids that may stand where the video goes; looking them up in a large vocabulary takes time."""
        processor = self.info.get_hf_processor()
        video_id = processor.tokenizer.get_vocab().get(VIDEO_TOKEN)
        return [processor.placeholder_ids[0], *([] if video_id is None else [video_id])]

    def _postprocess_prompt(self, prompt: list[int]) -> list[int]:
        """A turn that holds the video and no text gets the checkpoint's own question."""
        tokenizer = self.info.get_hf_processor().tokenizer
        start = max((i + 1 for i, token in enumerate(prompt) if token in self._targets), default=0)
        if not start or tokenizer.eos_token_id not in prompt[start:]:
            return prompt
        end = prompt.index(tokenizer.eos_token_id, start)
        if tokenizer.decode(prompt[start:end]).strip():
            return prompt
        asked = Prompt.from_dict(self.info.get_hf_processor().prompt)
        question = asked.separator + asked.question
        return [*prompt[:start], *tokenizer(question, add_special_tokens=False)["input_ids"], *prompt[end:]]


class LoadableSlowFast(SlowFast):
    """SlowFast as vLLM's loader fills it: buffers by name, in parts."""

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Copy what is given; returns the names."""
        state = dict(weights)
        unknown = self.load_state_dict(state, strict=False).unexpected_keys
        if unknown:
            raise ValueError(f"the checkpoint's SlowFast has {unknown[0]!r}, which this one has not")
        return set(state)


@MULTIMODAL_REGISTRY.register_processor(InputProcessor, info=ProcessingInfo, dummy_inputs=DummyInputsBuilder)
class VQAThinkerForVLLM(InternS1ForConditionalGeneration):  # type: ignore[misc]
    """A checkpoint in vLLM.

    Its logits are those of `temperature`, without the ids that a response may never hold; so vLLM's raw
    log-probabilities are those that training computes, whatever top-k and top-p are, but for the share of the
    suppressed ids, which a trained policy gives nothing.
    """

    hf_to_vllm_mapper = InternS1ForConditionalGeneration.hf_to_vllm_mapper | WeightsMapper(
        orig_to_new_prefix={"model.slowfast.": "slowfast.", "model.motion_projector.": "motion_projector."}
    )

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        processor = VQAThinkerProcessor.from_pretrained(vllm_config.model_config.model)
        self.suppressed_ids: list[int] = processor.suppressed_ids
        self.temperature = 1.0
        self.weights_tag = ""

    def _init_mlp1(self, config: VQAThinkerConfig) -> nn.Module:
        """The projector of frames; with it the motion branch, among what vLLM leaves out if unused."""
        if config.motion != "none":
            self.slowfast = LoadableSlowFast(config.slowfast_depth, config.slowfast_stem_dim)
            self.motion_projector = MotionProjector(config)
        projector: nn.Module = super()._init_mlp1(config)
        return projector

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str:
        """What a chat message holds in the place of its video."""
        if modality != "video":
            raise ValueError(f"this model takes one video, no {modality}")
        return "<IMG_CONTEXT>"

    def embed_multimodal(self, **kwargs: Any) -> tuple[Tensor, ...]:
        """The visual embeddings of every video of the batch in the order of the placeholders."""
        embeds = kwargs.get("video_embeds")
        return tuple(self.encode(kwargs["pixel_values_videos"]) if embeds is None else embeds)

    def encode(self, pixels: Tensor) -> Tensor:
        """Embeddings (B, number of placeholders, d) of (B, T, 3, S, S) normalised keyframes."""
        frames: Tensor = self.extract_feature(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        if self.config.motion == "none":
            return frames.flatten(1, 2)
        if self.config.motion == "fast":
            motion = self.motion_projector(self.slowfast.fast_features(pixels))
            return torch.cat([frames, motion[:, :, None]], dim=2).flatten(1, 2)
        return torch.cat([frames.flatten(1, 2), self.motion_projector(self.slowfast(pixels))], dim=1)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Logits (B, V) at the sampling temperature, −∞ for suppressed ids."""
        logits: Tensor | None = super().compute_logits(hidden_states)
        if logits is not None:
            logits = logits.float() / self.temperature
            logits[:, self.suppressed_ids] = -torch.inf
        return logits

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load what is given; vLLM counts parameters only, so that SlowFast's buffers are counted here.

        Raises:
            ValueError: if the checkpoint lacks weights of SlowFast.
        """
        loaded: set[str] = super().load_weights(weights)
        if (
            isinstance(getattr(self, "slowfast", None), SlowFast)
            and "vision_tower.embeddings.cls_token" in loaded
        ):
            missing = sorted({f"slowfast.{name}" for name in self.slowfast.state_dict()} - loaded)
            if missing:
                raise ValueError(f"the checkpoint lacks {len(missing)} weights such as {missing[0]!r}")
        return loaded
