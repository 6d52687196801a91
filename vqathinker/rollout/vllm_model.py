"""The policy as a vLLM model: InternVL whose "video" item is a block of precomputed embeddings.

Read against vLLM 0.31, which runs InternVL in the Hugging Face format by its class InternS1. `vllm_plugin`
makes it known. A prompt holds one placeholder token where the video goes; the request says in
`mm_processor_kwargs` which ids stand there, so that vLLM sees exactly the trainer's prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature
from vllm.config import VllmConfig
from vllm.model_executor.models.interns1 import (
    InternS1DummyInputsBuilder,
    InternS1ForConditionalGeneration,
    InternS1MultiModalProcessor,
    InternS1ProcessingInfo,
)
from vllm.model_executor.models.utils import AutoWeightsLoader
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import MultiModalDataItems
from vllm.multimodal.processing import PromptReplacement, PromptUpdate, PromptUpdateDetails

from vqathinker.model import VQAThinkerProcessor

SPAN = "visual_ids"  # the key in `mm_processor_kwargs` under which a request tells its visual part


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
    """Inputs for vLLM's start-up checks, which the engine skips: it takes embeddings only."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """One placeholder per video."""
        processor = self.info.get_hf_processor()
        return str(processor.tokenizer.decode(processor.placeholder_ids[0])) * mm_counts.get("video", 0)


class EmbeddingsProcessor(InternS1MultiModalProcessor):  # type: ignore[misc]
    """Puts the ids of the request's visual part in the place of its placeholder."""

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {"video_embeds": MultiModalFieldConfig.batched("video")}

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, object],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        processor = self.info.get_hf_processor()
        marks = list(processor.placeholder_ids)
        span = hf_processor_mm_kwargs.get(SPAN)
        if span is None:
            raise ValueError(f"a request needs {SPAN!r} in its mm_processor_kwargs: its visual part as ids")
        replacement = PromptUpdateDetails.select_token_ids(list(span), marks)  # type: ignore[call-overload]
        return [PromptReplacement(modality="video", target=[marks[0]], replacement=lambda _: replacement)]


@MULTIMODAL_REGISTRY.register_processor(
    EmbeddingsProcessor, info=ProcessingInfo, dummy_inputs=DummyInputsBuilder
)
class VQAThinkerForVLLM(InternS1ForConditionalGeneration):  # type: ignore[misc]
    """The language model of a checkpoint behind precomputed visual embeddings.

    Its logits are those of `temperature`, without the ids that a response may never hold; so vLLM's raw
    log-probabilities are those that training computes, whatever top-k and top-p are, but for the share of the
    suppressed ids, which a trained policy gives nothing.
    """

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        processor = VQAThinkerProcessor.from_pretrained(vllm_config.model_config.model)
        self.suppressed_ids: list[int] = processor.suppressed_ids
        self.temperature = 1.0

    def embed_multimodal(self, **kwargs: Any) -> tuple[Tensor, ...]:
        """The embeddings of every video of the batch, as they were given."""
        return tuple(kwargs.get("video_embeds", ()))

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Logits (B, V) at the sampling temperature, −∞ for suppressed ids."""
        logits: Tensor | None = super().compute_logits(hidden_states)
        if logits is not None:
            logits = logits.float() / self.temperature
            logits[:, self.suppressed_ids] = -torch.inf
        return logits

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load what is given of InternVL's weights; the motion branch is left to who makes the embeddings."""
        ours = (
            (n, w) for n, w in weights if not n.startswith(("model.slowfast.", "model.motion_projector."))
        )
        loaded: set[str] = AutoWeightsLoader(self).load_weights(ours, mapper=self.hf_to_vllm_mapper)
        return loaded
