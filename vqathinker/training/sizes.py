"""The sizes of a model, read from its configuration: the real classes are built without memory (`meta`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from trl.trainer.model_config import ModelConfig

from vqathinker.model import FrameSetting, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.assemble import PROCESSOR_FILE
from vqathinker.model.modeling import VQAThinkerConfig
from vqathinker.prompts import Prompt
from vqathinker.training.hardware import MODELS
from vqathinker.training.setup import lora

FP32, BF16 = 4, 2  # bytes of a number
PAPER_FRAMES = FrameSetting(6, 448)
CHARACTERS_PER_TOKEN = 4  # of English, where no tokenizer is at hand


@dataclass(frozen=True)
class Tower:
    """The widths of a transformer: layers, residual stream, MLP, and all heads' queries and keys."""

    layers: int
    width: int
    mlp: int
    query: int
    key: int
    normalises_keys: bool = False


@dataclass(frozen=True)
class ModelSizes:
    """What memory and time depend on.

    Attributes:
        text: the language model.
        vision: the vision tower.
        vocabulary: rows of the language-model head.
        num_frames: keyframes of a video in training.
        tokens_per_frame: visual tokens of a frame.
        prompt_length: tokens of a prompt.
        num_weights: all parameters (SlowFast's weights are buffers).
        num_trained: those that an optimiser updates.
        weight_bytes: of all parameters.
        trained_bytes: of the trained ones.
        num_language: parameters of language model and head, all that a vLLM engine loads.
        slowfast_bytes: frozen, fp32.
        trains_tower: whether gradients reach the vision tower.
        trains_vision: whether they reach the tower or its projector, so that a frame's features change.
        itemsize: bytes of a weight of the residual stream.
        has_adapters: whether LoRA adapters are trained in place of the weights.
    """

    text: Tower
    vision: Tower
    vocabulary: int
    num_frames: int
    tokens_per_frame: int
    prompt_length: int
    num_weights: int
    num_trained: int
    weight_bytes: int
    trained_bytes: int
    num_language: int
    slowfast_bytes: int
    trains_tower: bool
    trains_vision: bool
    itemsize: int
    has_adapters: bool

    @property
    def patches_per_frame(self) -> int:
        """Positions of the vision tower: four per visual token, and one for the whole frame."""
        return 4 * self.tokens_per_frame + 1


@dataclass(frozen=True)
class Checkpoint:
    """A configuration and the prompt that goes with it.

    Attributes:
        config: the model's.
        frames: keyframes in training.
        prompt_length: tokens of a prompt.
        is_counted: whether `prompt_length` is the tokenizer's own count, not an estimate.
    """

    config: VQAThinkerConfig
    frames: FrameSetting
    prompt_length: int
    is_counted: bool


def read_checkpoint(name: str) -> Checkpoint:
    """Read a checkpoint folder, a `config.json`, or take a published model by name; no weights are loaded.

    Raises:
        ValueError: if `name` is none of these.
    """
    path = Path(name)
    if name in MODELS:
        text, vision = MODELS[name]
        return _without_processor(
            VQAThinkerConfig(text_config=dict(text), vision_config=dict(vision), tie_word_embeddings=False)
        )
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"{name}: neither a checkpoint folder, nor a config.json, nor one of {', '.join(MODELS)}"
        )
    values = json.loads(file.read_text(encoding="utf-8"))
    if values.get("model_type") not in {"internvl", VQAThinkerConfig.model_type}:
        raise ValueError(
            f"{file} describes a {values.get('model_type')!r} model; give an InternVL in the Hugging Face "
            "format (-hf), or a checkpoint made by `vqathinker init`"
        )
    config = VQAThinkerConfig(**{k: v for k, v in values.items() if k != "model_type"})
    if not (file.parent / PROCESSOR_FILE).is_file():
        return _without_processor(config)
    processor = VQAThinkerProcessor.from_pretrained(file.parent)
    frames = processor.training
    length = len(processor.prompt_ids(frames.num_frames, frames.tokens_per_frame))
    return Checkpoint(config, frames, length, is_counted=True)


def _without_processor(config: VQAThinkerConfig) -> Checkpoint:
    """The paper's frames, and the tokens of the default wording estimated from its length."""
    frames, prompt = PAPER_FRAMES, Prompt()
    label = len(prompt.frame_label) // CHARACTERS_PER_TOKEN
    around = prompt.opening + prompt.motion_label + prompt.question
    per_frame = frames.tokens_per_frame + label + 3  # the two ends of an image and a line feed
    length = frames.num_frames * per_frame + len(around) // CHARACTERS_PER_TOKEN + 12  # the chat's own
    return Checkpoint(config, frames, length, is_counted=False)


def measure(checkpoint: Checkpoint, model_config: ModelConfig, *, has_masters: bool) -> ModelSizes:
    """Count the weights of the model as a run would hold it.

    Args:
        checkpoint: what to build.
        model_config: precision and LoRA.
        has_masters: DeepSpeed in bf16, which brings every parameter to bf16.
    """
    config = checkpoint.config
    dtype = model_config.dtype if model_config.dtype not in {None, "auto"} else config.dtype
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float32
    with torch.device("meta"):
        model: Any = VQAThinkerForConditionalGeneration(config)
        model.to(dtype)
    language = [model.model.language_model, model.lm_head]
    num_language = _count(_unique(parameter for part in language for parameter in part.parameters()))
    policy: nn.Module = model
    if model_config.use_peft:
        from peft import get_peft_model

        adapters = lora(model_config, model)
        assert adapters is not None
        policy = get_peft_model(model, adapters)
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
