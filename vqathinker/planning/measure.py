"""The sizes of a model, measured on the real classes, which are built without memory (`meta`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from trl.trainer.model_config import ModelConfig

from vqathinker.model import VQAThinkerForConditionalGeneration
from vqathinker.model.modeling import VQAThinkerConfig
from vqathinker.planning.checkpoint import Checkpoint
from vqathinker.planning.sizes import ModelSizes, Tower
from vqathinker.training.grpo.reference import REFERENCE_ADAPTER
from vqathinker.training.setup import lora


def measure(checkpoint: Checkpoint, model_config: ModelConfig, *, has_masters: bool) -> ModelSizes:
    """Count the weights of the model as a run would hold it.

    Args:
        checkpoint: what to build.
        model_config: precision and LoRA.
        has_masters: DeepSpeed in bf16, which brings every parameter to bf16.
    """
    config = VQAThinkerConfig(**{k: v for k, v in checkpoint.config.items() if k != "model_type"})
    dtype = model_config.dtype if model_config.dtype not in {None, "auto"} else config.dtype
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float32
    with torch.device("meta"):
        model: Any = VQAThinkerForConditionalGeneration(config)
        model.to(dtype)
    language = [model.model.language_model, model.lm_head]
    num_language = _count(_unique(parameter for part in language for parameter in part.parameters()))
    policy: nn.Module = model
    if model_config.use_peft:
        from peft import PeftConfig, get_peft_model

        if checkpoint.adapter is None:
            policy = get_peft_model(model, lora(model_config, model))  # type: ignore[arg-type]
        else:
            settings = {**checkpoint.adapter, "inference_mode": False, "base_model_name_or_path": None}
            own = PeftConfig.from_peft_type(**settings)  # type: ignore[no-untyped-call]
            adapted: Any = get_peft_model(model, own)
            adapted.add_adapter(REFERENCE_ADAPTER, own)
            policy = adapted
    if has_masters:
        policy.to(torch.bfloat16)
    weights = _unique(policy.parameters())
    trained = [weight for weight in weights if weight.requires_grad]
    return ModelSizes(
        text=_text_tower(config.text_config),
        vision=_vision_tower(config.vision_config),
        vocabulary=config.text_config.vocab_size,  # type: ignore[union-attr]
        num_frames=checkpoint.frames.num_frames,
        tokens_per_frame=checkpoint.frames.tokens_per_frame,
        prompt_length=checkpoint.prompt_length,
        num_weights=_count(weights),
        num_trained=_count(trained),
        weight_bytes=num_bytes(weights),
        trained_bytes=num_bytes(trained),
        num_language=num_language,
        slowfast_bytes=num_bytes(model.model.slowfast.buffers()) if config.motion != "none" else 0,
        trains_tower=any(weight.requires_grad for weight in model.model.vision_tower.parameters()),
        trains_vision=model.model.trains_vision,
        itemsize=model.get_input_embeddings().weight.itemsize,
        has_adapters=bool(model_config.use_peft),
    )


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors)


def _count(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _unique(tensors: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return list({id(tensor): tensor for tensor in tensors}.values())


def _text_tower(config: Any) -> Tower:  # noqa: ANN401  of any language model
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Tower(
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads * head,
        config.num_key_value_heads * head,
    )


def _vision_tower(config: Any) -> Tower:  # noqa: ANN401  transformers declares it so
    width = config.hidden_size
    return Tower(config.num_hidden_layers, width, config.intermediate_size, width, width, config.use_qk_norm)
