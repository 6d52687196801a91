"""What a checkpoint's `config.json` says of the model, without defaults that speak against its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, InternVLConfig, PreTrainedConfig

from vqathinker.checkpoints import layouts
from vqathinker.checkpoints.folders import CONFIG_FILE, HOW_TO_MERGE, is_adapter
from vqathinker.checkpoints.storage import read_json
from vqathinker.model.modeling import check_language_model

CHAT = "internvl_chat"
HF_SETTINGS = {
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "default",
    "downsample_ratio": layouts.DOWNSAMPLE_RATIO,
}
# What steers transformers and not the model: it would travel into every later run
OUTWARD = PreTrainedConfig().to_dict().keys() - {"model_type"} | {"use_cache"}


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint that can be converted.

    Raises:
        ValueError: if there is none, or it is that of another model.
    """
    if is_adapter(folder):
        how = HOW_TO_MERGE.format(adapter=folder)
        raise ValueError(f"{folder} holds an adapter; merge it into its base ({how}) and convert that")
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"{folder} has no {CONFIG_FILE}, it is not a checkpoint")
    config = read_json(folder / CONFIG_FILE)
    if config.get("model_type") not in layouts.RULES:
        raise ValueError(
            f"{folder} is a {config.get('model_type')!r} model; {', '.join(layouts.RULES)} can be converted"
        )
    return config


def text_tie(config: dict[str, Any]) -> bool | None:
    """Whether the language model's part of a configuration calls the head its embeddings; None if silent."""
    part = config.get("llm_config" if config["model_type"] == CHAT else "text_config") or {}
    tie: bool | None = part.get("tie_word_embeddings")
    return tie


def internvl_values(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Those settings of a Hugging Face configuration that are InternVL's.

    Args:
        folder: the checkpoint.
        config: its `config.json`, where it matters what is written and what is a default of transformers.

    Raises:
        ValueError: if the model computes something that ours does not.
    """
    check_language_model({"model_type": "qwen2", **(config.get("text_config") or {})})
    values = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
    for name, expected in HF_SETTINGS.items():
        if values[name] != expected:
            raise ValueError(f"{name} is {values[name]!r}; only {expected!r} can be converted")
    if "image_token_id" not in config:
        del values["image_token_id"]  # the tokenizer knows it
    known = InternVLConfig().to_dict().keys() - OUTWARD - {"model_type"}
    parts = {name: _inward(values[name]) for name in ("text_config", "vision_config")}
    return {name: value for name, value in values.items() if name in known} | parts


def _inward(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in OUTWARD}
