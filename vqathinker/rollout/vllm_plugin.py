"""The entry point `vllm.general_plugins`: makes vLLM know our checkpoints, in each of its processes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL = "vqathinker.rollout.vllm_model:VQAThinkerForVLLM"
SPAN = "visual_ids"  # the key in `mm_processor_kwargs` of a request's ids up to the end of its video


class EncodedFile:
    """A video loader that decodes nothing yet: the processor knows which frames it wants."""

    @staticmethod
    def load_bytes(data: bytes, **kwargs: object) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """The bytes of the file as an array (number of bytes,)."""
        return np.frombuffer(data, np.uint8), {}


def register() -> None:
    """Register configuration, processor, video loader and model; may be called again."""
    from transformers.models.auto import video_processing_auto as video_processors
    from vllm import ModelRegistry
    from vllm.multimodal.video import VIDEO_LOADER_REGISTRY

    from vqathinker.model import VQAThinkerConfig  # registers itself and the processor with transformers

    model_type = VQAThinkerConfig.model_type
    # by this name vLLM finds the loader
    video_processors.VIDEO_PROCESSOR_MAPPING_NAMES[model_type] = model_type  # type: ignore[attr-defined]
    VIDEO_LOADER_REGISTRY.register(model_type, video_processor=model_type)(EncodedFile)
    name = "VQAThinkerForConditionalGeneration"
    if name not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(name, MODEL)
