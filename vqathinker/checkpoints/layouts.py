"""How other checkpoints name their weights and settings, and what ours call them.

Three layouts: "internvl_chat" (InternVL with code of its own, and VQAThinker's released weights in it),
"internvl" (Hugging Face), "vqathinker" (ours). Knows names and settings only; `convert` moves the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from vqathinker.model.processing import PIXELS_PER_TOKEN

Rules = list[tuple[re.Pattern[str], tuple[str, ...]]]
PATCH_SIZE = 14
DOWNSAMPLE_RATIO = 0.5
QK_NORM_EPS = 1e-6
# Classes of language models in `internvl_chat`, and their types
LANGUAGE_MODELS = {"Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
MOTION_PARTS = ("model.slowfast.", "model.motion_projector.")

# What InternVL's vision configuration takes for a setting that its file leaves out.
VISION_DEFAULTS: dict[str, Any] = {
    "num_channels": 3,
    "patch_size": PATCH_SIZE,
    "image_size": 224,
    "qkv_bias": False,
    "hidden_size": 3200,
    "num_attention_heads": 25,
    "intermediate_size": 12800,
    "qk_normalization": True,
    "num_hidden_layers": 48,
    "hidden_act": "gelu",
    "norm_type": "rms_norm",
    "layer_norm_eps": 1e-6,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "initializer_factor": 0.1,
}
VISION_NAMES = {
    "qkv_bias": "attention_bias",
    "qk_normalization": "use_qk_norm",
    "dropout": "projection_dropout",
    "initializer_factor": "layer_scale_init_value",
}
# The system message of each conversation template; a turn is <|im_start|>role, its text, <|im_end|>.
SYSTEM_MESSAGES = {
    "internvl2_5": "你是书生·万象，英文名是InternVL，"
    "是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
}
TURN_END = "<|im_end|>"
PAD = "<|endoftext|>"


def _rules(table: Mapping[str, str | tuple[str, ...]]) -> Rules:
    return [
        (re.compile(pattern), (names,) if isinstance(names, str) else names)
        for pattern, names in table.items()
    ]


_EMBEDDINGS = r"vision_model\.embeddings\."
_NEW_EMBEDDINGS = "model.vision_tower.embeddings."
_LAYER = r"vision_model\.encoder\.layers\.(\d+)\."
_NEW_LAYER = r"model.vision_tower.encoder.layer.\1."
_TENSOR = r"\.(weight|bias)"
RULES: dict[str, Rules] = {
    "internvl_chat": _rules(
        {
            _EMBEDDINGS + "class_embedding": _NEW_EMBEDDINGS + "cls_token",
            _EMBEDDINGS + "position_embedding": _NEW_EMBEDDINGS + "position_embeddings",
            _EMBEDDINGS + "patch_embedding" + _TENSOR: _NEW_EMBEDDINGS + r"patch_embeddings.projection.\1",
            _LAYER + r"attn\.qkv" + _TENSOR: tuple(
                _NEW_LAYER + rf"attention.{part}_proj.\2" for part in ("q", "k", "v")
            ),
            _LAYER + r"attn\.proj" + _TENSOR: _NEW_LAYER + r"attention.projection_layer.\2",
            _LAYER + r"attn\.([qk])_norm\.weight": _NEW_LAYER + r"attention.\2_norm.weight",
            _LAYER + r"ls([12])": _NEW_LAYER + r"lambda_\2",
            _LAYER + "norm1" + _TENSOR: _NEW_LAYER + r"layernorm_before.\2",
            _LAYER + "norm2" + _TENSOR: _NEW_LAYER + r"layernorm_after.\2",
            _LAYER + r"mlp\.fc([12])" + _TENSOR: _NEW_LAYER + r"mlp.fc\2.\3",
            r"mlp1\.0" + _TENSOR: r"model.multi_modal_projector.layer_norm.\1",
            r"mlp1\.1" + _TENSOR: r"model.multi_modal_projector.linear_1.\1",
            r"mlp1\.3" + _TENSOR: r"model.multi_modal_projector.linear_2.\1",
            r"motion_mlp\.0" + _TENSOR: r"model.motion_projector.layer_norm.\1",
            r"motion_mlp\.1" + _TENSOR: r"model.motion_projector.linear_1.\1",
            r"motion_mlp\.3" + _TENSOR: r"model.motion_projector.linear_2.\1",
            r"slowfast_model\.feature_extraction\.([0-4]\..+)": r"model.slowfast.blocks.\1",
            r"language_model\.lm_head\.weight": "lm_head.weight",
            r"language_model\.model\.(.+)": r"model.language_model.\1",
        }
    ),
    "internvl": _rules(
        {
            r"language_model\.lm_head\.weight": "lm_head.weight",
            r"language_model\.model\.(.+)": r"model.language_model.\1",
            r"((?:vision_tower|multi_modal_projector)\..+)": r"model.\1",
            r"(model\..+|lm_head\.weight)": r"\1",
        }
    ),
    "vqathinker": _rules({r"(.+)": r"\1"}),
}
_PUBLISHED = _rules(
    {
        r"lm_head\.weight": "language_model.lm_head.weight",
        r"model\.language_model\.(.+)": r"language_model.model.\1",
        r"model\.((?:vision_tower|multi_modal_projector)\..+)": r"\1",
    }
)


def _translate(name: str, rules: Rules) -> tuple[str, ...]:
    for pattern, names in rules:
        match = pattern.fullmatch(name)
        if match:
            return tuple(match.expand(new) for new in names)
    return ()


def our_names(name: str, layout: str) -> tuple[str, ...]:
    """Names of our weights that one tensor of a layout holds, in equal parts along its first dimension.

    >>> our_names("mlp1.1.bias", "internvl_chat")
    ('model.multi_modal_projector.linear_1.bias',)
    >>> len(our_names("vision_model.encoder.layers.3.attn.qkv.weight", "internvl_chat"))
    3
    >>> our_names("optimizer.step", "internvl_chat")
    ()
    """
    return _translate(name, RULES[layout])


def published_name(name: str) -> str:
    """The name under which InternVL's Hugging Face checkpoints store one of our weights.

    >>> published_name("model.language_model.norm.weight")
    'language_model.model.norm.weight'
    """
    return _translate(name, _PUBLISHED)[0]


def chat_values(config: dict[str, Any]) -> dict[str, Any]:
    """Settings of an `internvl_chat` configuration as `VQAThinkerConfig` takes them.

    Raises:
        ValueError: if the model computes something that ours does not.
    """
    vision = {**VISION_DEFAULTS, **config.get("vision_config", {})}
    text: dict[str, Any] = config.get("llm_config", {})
    _refuse_unsupported(config, vision, text)
    size = config.get("force_image_size") or vision["image_size"]
    return {
        "vision_config": {VISION_NAMES.get(name, name): vision[name] for name in VISION_DEFAULTS},
        "text_config": _text_values(text),
        "image_seq_length": (size // PIXELS_PER_TOKEN) ** 2,
        "downsample_ratio": DOWNSAMPLE_RATIO,
        "tie_word_embeddings": bool(text.get("tie_word_embeddings", False)),
    }


def text_config_class(text: Mapping[str, Any]) -> type[PreTrainedConfig]:
    """The configuration of the language model that `llm_config` names, one of `LANGUAGE_MODELS`."""
    return CONFIG_MAPPING[LANGUAGE_MODELS[text["architectures"][0]]]


def _text_values(text: dict[str, Any]) -> dict[str, Any]:
    """What the language model's own configuration knows; the file's other entries steer no computation."""
    kind = text_config_class(text)
    known = {
        *kind().to_dict(),
        "rope_theta",
        "rope_scaling",
        "head_dim",
    } - PreTrainedConfig().to_dict().keys()
    return {name: text[name] for name in text if name in known - {"use_cache"}} | {
        "model_type": kind.model_type
    }


def _refuse_unsupported(config: dict[str, Any], vision: dict[str, Any], text: dict[str, Any]) -> None:
    language = (text.get("architectures") or [None])[0]
    normalised = vision["qk_normalization"]
    checks: tuple[tuple[str, Any, Callable[[Any], bool], str], ...] = (
        ("select_layer", config.get("select_layer", -1), lambda v: v == -1, "-1"),
        ("ps_version", config.get("ps_version", "v1"), lambda v: v == "v2", "'v2'"),
        ("downsample_ratio", config.get("downsample_ratio", 0.5), lambda v: v == DOWNSAMPLE_RATIO, "0.5"),
        ("template", config.get("template"), SYSTEM_MESSAGES.__contains__, " or ".join(SYSTEM_MESSAGES)),
        ("use_llm_lora", config.get("use_llm_lora", 0), lambda v: not v, "0: merge the adapter first"),
        ("use_backbone_lora", config.get("use_backbone_lora", 0), lambda v: not v, "0: merge it first"),
        ("quantization_config", config.get("quantization_config"), lambda v: not v, "plain weights"),
        ("llm_config.architectures", language, LANGUAGE_MODELS.__contains__, " or ".join(LANGUAGE_MODELS)),
        ("vision_config.patch_size", vision["patch_size"], lambda v: v == PATCH_SIZE, str(PATCH_SIZE)),
        ("vision_config.norm_type", vision["norm_type"], ("layer_norm", "rms_norm").__contains__, "a norm"),
        (
            "vision_config.layer_norm_eps",
            vision["layer_norm_eps"],
            lambda v: not normalised or v == QK_NORM_EPS,
            f"{QK_NORM_EPS} with qk_normalization",
        ),
    )
    for name, value, is_fine, expected in checks:
        if not is_fine(value):
            raise ValueError(f"{name} is {value!r}; only {expected} can be converted")


def chat_template(template: str) -> str:
    """The Jinja form of a conversation template of `internvl_chat`."""
    return (
        "{% if messages[0].role != 'system' %}<|im_start|>system\n"
        + SYSTEM_MESSAGES[template]
        + "<|im_end|>\n{% endif %}"
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


STAGE_DEPTHS = {1: 18, 6: 50, 23: 101}  # residual blocks of the third stage → depth of the network


def slowfast_size(shapes: Mapping[str, Any]) -> dict[str, int]:
    """Depth and width of the SlowFast among our weights; those of the published one where parts are missing.

    Args:
        shapes: of weights by name as SlowFast itself has them; others may be among them.
    """
    blocks = {
        int(match[1])
        for match in (re.match(r"blocks\.3\.multipathway_blocks\.0\.res_blocks\.(\d+)\.", n) for n in shapes)
        if match
    }
    stem = shapes.get("blocks.0.multipathway_blocks.0.conv.weight", (64,))
    return {"slowfast_depth": STAGE_DEPTHS.get(len(blocks), 50), "slowfast_stem_dim": stem[0]}
