"""The sizes of a model, by arithmetic on its configuration.

`tests/test_plan.py` holds them against the real classes. Settings that are not counted here (LoRA on other
layers, say) are measured on the real classes, in `vqathinker.planning.measure`, which takes torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vqathinker.launch.fields import read_fields
from vqathinker.launch.lora import LANGUAGE_LAYERS
from vqathinker.planning.checkpoint import Checkpoint

FP32 = 4  # bytes of a number
BF16 = 2
ITEMSIZES = {"float32": FP32, "bfloat16": BF16, "float16": BF16}
TEXT_CONFIGS = {
    "qwen2": ("transformers/models/qwen2/configuration_qwen2.py", "Qwen2Config"),
    "qwen3": ("transformers/models/qwen3/configuration_qwen3.py", "Qwen3Config"),
}
VISION_CONFIG = ("transformers/models/internvl/configuration_internvl.py", "InternVLVisionConfig")
# of the model's own configuration
DEFAULTS: dict[str, Any] = {
    "motion": "slowfast", "slowfast_depth": 50, "slowfast_stem_dim": 64, "max_frames": 64,
    "downsample_ratio": 0.5, "tie_word_embeddings": True,
}  # fmt: skip
# entries of an `adapter_config.json` that arithmetic knows
USUAL_ADAPTER: dict[str, Any] = {
    "peft_type": "LORA", "target_modules": LANGUAGE_LAYERS, "use_dora": False, "rank_pattern": {},
    "lora_bias": False, "bias": "none", "target_parameters": None,
}  # fmt: skip
SLOWFAST_BYTES = {(50, 64): 134821584, (18, 16): 2795752}  # by depth and stem; weights and statistics, fp32
CHANNEL_RATIO = 8  # of SlowFast's pathways
EXPANSION = 32  # of its last stage against the stem


@dataclass(frozen=True)
class Precision:
    """What sizes depend on: the entries of TRL's `ModelConfig` for the weights' type and for LoRA."""

    dtype: str | None = "float32"
    use_peft: bool = False
    lora_r: int = 16
    lora_target_modules: list[str] | None = None
    lora_target_parameters: list[str] | None = None
    lora_modules_to_save: list[str] | None = None
    use_dora: bool = False


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

    @property
    def trains_low(self) -> bool:
        """Whether weights are trained in 16 bits."""
        return self.trained_bytes < FP32 * self.num_trained


def is_counted(checkpoint: Checkpoint, told: Precision) -> bool:
    """Whether arithmetic knows the model and the adapters; `measure` does otherwise."""
    config = DEFAULTS | dict(checkpoint.config)
    others = (told.lora_target_modules, told.lora_target_parameters, told.lora_modules_to_save)
    usual = not told.use_peft or not (any(others) or told.use_dora)
    if told.use_peft and checkpoint.adapter is not None:
        saved = ["motion_projector"] if config["motion"] != "none" else None
        expected = {**USUAL_ADAPTER, "modules_to_save": saved}
        usual = {name: checkpoint.adapter.get(name) for name in expected} == expected
    known = (config["slowfast_depth"], config["slowfast_stem_dim"]) in SLOWFAST_BYTES
    return usual and known and _text_type(config) in TEXT_CONFIGS


def count(checkpoint: Checkpoint, told: Precision, *, has_masters: bool) -> ModelSizes:
    """Sizes of the model as a run would hold it.

    Args:
        checkpoint: what to count.
        told: precision and LoRA, on the language model's linear layers; see `is_counted`.
        has_masters: DeepSpeed in bf16, which brings every parameter to bf16.
    """
    config = DEFAULTS | dict(checkpoint.config)
    text = _filled(TEXT_CONFIGS[_text_type(config)], config.get("text_config"))
    vision = _filled(VISION_CONFIG, config.get("vision_config"))
    text_tower = _text_tower(text)
    vision_tower = _vision_tower(vision)
    itemsize = BF16 if has_masters else _itemsize(config, told.dtype)
    motion = _motion_projector(config, text_tower.width)
    head = 0 if config["tie_word_embeddings"] else text["vocab_size"] * text_tower.width
    language = _language(text, text_tower)
    whole = language + head + _vision(vision, vision_tower) + motion
    whole += _projector(config, vision_tower.width, text_tower.width)
    weights = trained = whole
    weight_bytes = trained_bytes = itemsize * whole
    if told.use_peft:
        adapter = checkpoint.adapter
        lora = _lora(text_tower, told.lora_r if adapter is None else adapter["r"])
        lora_bytes = (BF16 if has_masters else FP32) * lora  # PEFT keeps adapters in fp32
        copies = 1 if adapter is None else 2  # an adapter that is trained on is kept as it was: the reference
        weights = whole + copies * (lora + motion)  # the motion projector is trained in a copy
        trained = lora + motion
        trained_bytes = lora_bytes + itemsize * motion
        weight_bytes += copies * trained_bytes
    has_motion = config["motion"] != "none"
    slowfast = config["slowfast_depth"], config["slowfast_stem_dim"]
    return ModelSizes(
        text=text_tower,
        vision=vision_tower,
        vocabulary=text["vocab_size"],
        num_frames=checkpoint.frames.num_frames,
        tokens_per_frame=checkpoint.frames.tokens_per_frame,
        prompt_length=checkpoint.prompt_length,
        num_weights=weights,
        num_trained=trained,
        weight_bytes=weight_bytes,
        trained_bytes=trained_bytes,
        num_language=language + head,
        slowfast_bytes=SLOWFAST_BYTES[slowfast] if has_motion else 0,
        trains_tower=not told.use_peft,
        trains_vision=not told.use_peft,
        itemsize=itemsize,
        has_adapters=bool(told.use_peft),
    )


def _text_type(config: Mapping[str, Any]) -> str:
    return str((config.get("text_config") or {}).get("model_type", "qwen2"))


def _filled(source: tuple[str, str], values: Mapping[str, Any] | None) -> dict[str, Any]:
    """A configuration's entries with the defaults of its class."""
    defaults = {name: field.default for name, field in read_fields(*source).items()}
    return defaults | dict(values or {})


def _itemsize(config: Mapping[str, Any], told: str | None) -> int:
    own = config.get("dtype") or config.get("torch_dtype") or "float32"
    return ITEMSIZES[str(own if told in {None, "auto"} else told)]


def _text_tower(config: Mapping[str, Any]) -> Tower:
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    keys = config["num_key_value_heads"] or heads
    return Tower(
        config["num_hidden_layers"],
        config["hidden_size"],
        config["intermediate_size"],
        heads * size,
        keys * size,
    )


def _vision_tower(config: Mapping[str, Any]) -> Tower:
    width = config["hidden_size"]
    return Tower(
        config["num_hidden_layers"], width, config["intermediate_size"], width, width, config["use_qk_norm"]
    )


def _language(config: Mapping[str, Any], tower: Tower) -> int:
    """Embeddings, layers and last norm of a Qwen language model."""
    is_qwen2 = "attention_bias" not in config
    linear = tower.width * (2 * tower.query + 2 * tower.key) + 3 * tower.width * tower.mlp
    biases = tower.query + 2 * tower.key if is_qwen2 else 0
    if config.get("attention_bias"):
        biases = tower.query + 2 * tower.key + tower.width
    norms = 2 * tower.width
    if not is_qwen2:
        norms += 2 * (tower.query // config["num_attention_heads"])  # of queries and keys, per head
    embeddings = int(config["vocab_size"]) * tower.width
    return embeddings + tower.layers * (linear + biases + norms) + tower.width


def _vision(config: Mapping[str, Any], tower: Tower) -> int:
    """InternViT: patches, positions, layers."""
    width = tower.width
    sides = [_pair(config[name]) for name in ("image_size", "patch_size")]
    (height, breadth), (patch_height, patch_breadth) = sides
    positions = (height // patch_height) * (breadth // patch_breadth) + 1
    patches = int(config["num_channels"]) * patch_height * patch_breadth * width + width
    marks = width * (2 if config["use_mask_token"] else 1)
    embeddings = patches + marks + (positions * width if config["use_absolute_position_embeddings"] else 0)
    norm = width if config["norm_type"] == "rms_norm" else 2 * width
    attention = 4 * width**2 + width + (3 * width if config["attention_bias"] else 0)
    attention += 2 * width if config["use_qk_norm"] else 0
    mlp = 2 * width * tower.mlp + tower.mlp + width
    scales = 2 * width
    last = 0 if config["use_mean_pooling"] else 2 * width
    return embeddings + tower.layers * (attention + mlp + 2 * norm + scales) + last


def _pair(size: Any) -> tuple[int, int]:  # noqa: ANN401  a number or two
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _projector(config: Mapping[str, Any], vision: int, text: int) -> int:
    merged = vision * int(1 / config["downsample_ratio"]) ** 2
    return 2 * merged + merged * text + text + text**2 + text


def _motion_projector(config: Mapping[str, Any], text: int) -> int:
    """LayerNorm, two linear layers, and for "fast" the positions."""
    if config["motion"] == "none":
        return 0
    stem = int(config["slowfast_stem_dim"])
    fast = stem // CHANNEL_RATIO * EXPANSION
    width = fast if config["motion"] == "fast" else stem * EXPANSION + fast
    positions = int(config["max_frames"]) * width if config["motion"] == "fast" else 0
    return 2 * width + width * text + text + text**2 + text + positions


def _lora(tower: Tower, rank: int) -> int:
    """Two factors for each linear layer of the language model."""
    queries = tower.width + tower.query
    keys = tower.width + tower.key
    return tower.layers * rank * (2 * queries + 2 * keys + 3 * (tower.width + tower.mlp))
