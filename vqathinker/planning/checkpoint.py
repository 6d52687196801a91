"""What a plan has to know of a checkpoint: its configuration and its prompt's length. Read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vqathinker.checkpoints.folders import (
    CONFIG_FILE,
    PROCESSOR_FILE,
    adapter_settings,
    base_folder,
    checkpoint_folder,
    is_adapter,
    is_hub_id,
)
from vqathinker.nearest import or_nearest
from vqathinker.planning.hardware import MODELS
from vqathinker.prompts import Prompt, visual_text
from vqathinker.types import FrameSetting

MODEL_TYPES = ("internvl", "vqathinker")
PAPER_FRAMES = FrameSetting(6, 448)
CHARACTERS_PER_TOKEN = 4  # of English, where no tokenizer is at hand
IMAGE = "<img> <IMG_CONTEXT> </img>"


@dataclass(frozen=True)
class Checkpoint:
    """A configuration and the prompt that goes with it.

    Attributes:
        config: the entries of its `config.json`; those left out have the class's defaults.
        frames: keyframes in training.
        prompt_length: tokens of a prompt.
        is_counted: whether `prompt_length` is the tokenizer's own count, not an estimate.
        adapter: the entries of its `adapter_config.json`, None if it is no adapter.
    """

    config: Mapping[str, Any]
    frames: FrameSetting
    prompt_length: int
    is_counted: bool
    adapter: Mapping[str, Any] | None = None


def read_checkpoint(name: str) -> Checkpoint:
    """Read a checkpoint folder, a `config.json`, or take a published model by name; no weights are loaded.

    Of an adapter its base is read.

    Raises:
        ValueError: if `name` is none of these.
    """
    if name in MODELS:
        text, vision = MODELS[name]
        config = {"text_config": dict(text), "vision_config": dict(vision), "tie_word_embeddings": False}
        return _without_processor(config)
    path = checkpoint_folder(name) if is_hub_id(name) else Path(name)
    if is_adapter(path):
        return replace(read_checkpoint(str(base_folder(path))), adapter=adapter_settings(path))
    file = path / CONFIG_FILE if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"{name}: neither a checkpoint folder, nor a config.json, nor one of {', '.join(MODELS)}"
            f"{or_nearest(name, list(MODELS))}"
        )
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("model_type") not in MODEL_TYPES:
        raise ValueError(
            f"{file} describes a {config.get('model_type')!r} model; give an InternVL in the Hugging Face "
            "format (-hf), or a checkpoint made by `vqathinker init`"
        )
    if not (file.parent / PROCESSOR_FILE).is_file():
        return _without_processor(config)
    settings = json.loads((file.parent / PROCESSOR_FILE).read_text(encoding="utf-8"))
    if "num_frames" not in settings:  # InternVL's own
        return _without_processor(config)
    frames = FrameSetting(settings["num_frames"], settings["frame_size"])
    return Checkpoint(config, frames, _count_prompt(file.parent, settings, frames), is_counted=True)


def _count_prompt(folder: Path, settings: Mapping[str, Any], frames: FrameSetting) -> int:
    """Tokens of the chat turn around one video, by the checkpoint's own template and tokenizer."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from tokenizers import Tokenizer

    prompt = Prompt.from_dict(settings.get("prompt") or {})
    start, _, end = IMAGE.split()
    content = visual_text(
        prompt,
        image=IMAGE,
        motion=f"{start} {settings['motion_token']} {end}",
        kind=settings["motion"],
        num_frames=frames.num_frames,
        tokens_per_frame=frames.tokens_per_frame,
    )
    turn = [{"role": "user", "content": content + prompt.question}]
    # as transformers renders chat templates
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_template(folder))
    text = template.render(messages=turn, add_generation_prompt=True)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def _template(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    values = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if not isinstance(values.get("chat_template"), str):
        raise ValueError(f"{folder} has no chat template (chat_template.jinja)")
    return str(values["chat_template"])


def _without_processor(config: Mapping[str, Any]) -> Checkpoint:
    """The paper's frames, and the tokens of the default wording estimated from its length."""
    frames = PAPER_FRAMES
    prompt = Prompt()
    label = len(prompt.frame_label) // CHARACTERS_PER_TOKEN
    around = prompt.opening + prompt.motion_label + prompt.question
    per_frame = frames.tokens_per_frame + label + 3  # the two ends of an image and a line feed
    length = frames.num_frames * per_frame + len(around) // CHARACTERS_PER_TOKEN + 12  # the chat's own
    return Checkpoint(config, frames, length, is_counted=False)
