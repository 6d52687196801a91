"""Files, folders and checkpoints that commands take, looked at before anything that takes long, and torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vqathinker.checkpoints.folders import (
    CONFIG_FILE,
    INDEX_FILE,
    PROCESSOR_FILE,
    base_folder,
    checkpoint_folder,
    is_adapter,
    is_hub_file,
)
from vqathinker.cli.show import fail
from vqathinker.cli.usage import nearest_path
from vqathinker.prompts import Prompt
from vqathinker.types import PIXELS_PER_TOKEN

MODEL_TYPE = "vqathinker"
HOW_TO_MAKE = "make one of it with `vqathinker init` or `vqathinker convert`"


def require_label_file(labels: Path) -> None:
    """Leave if there is no such label file."""
    if not labels.is_file():
        what = "is a folder, not a label file" if labels.is_dir() else "no such label file"
        fail(f"{labels}: {what}{nearest_path(labels)}")


def require_slowfast(slowfast: Path | None) -> None:
    """Leave if a SlowFast checkpoint is named that is not there."""
    if slowfast is not None and not slowfast.is_file() and not is_hub_file(slowfast):
        fail(f"--slowfast {slowfast} is not a file{nearest_path(slowfast)}")


def read_prompt(prompt: Path | None) -> Prompt | None:
    """The prompt in a file, if one is given; leave if it cannot be read."""
    if prompt is None:
        return None
    if not prompt.is_file():
        fail(f"--prompt {prompt} is not a file{nearest_path(prompt)}")
    try:
        return Prompt.from_file(prompt)
    except (ValueError, OSError) as error:
        fail(error)


def require_size(option: str, size: int | None) -> None:
    """Leave if the side of keyframes is none that the vision tower takes."""
    if size is not None and (size < PIXELS_PER_TOKEN or size % PIXELS_PER_TOKEN):
        fail(f"{option} {size}: a frame size is a multiple of {PIXELS_PER_TOKEN} pixels")


def require_new(out: Path, *, overwrite: bool) -> None:
    """Leave if a folder cannot be written: it is none, or holds files that may not be replaced."""
    if out.exists() and not out.is_dir():
        fail(f"{out} is a file, not a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        fail(f"{out} is not empty; choose another folder, or replace what is in it (--overwrite)")


def require_checkpoint(name: str) -> Path:
    """The folder of a checkpoint, fetched if only the hub has it; leave if it cannot be one."""
    folder = _folder_of(name)
    if is_adapter(folder):
        _require_model(_base_of(folder))
    else:
        _require_model(folder)
    if not (folder / PROCESSOR_FILE).is_file():
        fail(
            f"{folder} has no {PROCESSOR_FILE}, so frame size, normalisation and prompt are unknown; copy it "
            "from the checkpoint that this one was trained from"
        )
    return folder


def _folder_of(name: str) -> Path:
    path = Path(name)
    # a path whose folder is here is a mistyped one, not a name on the hub
    is_here = path.parent != Path() and path.parent.is_dir()
    meant = "" if path.exists() else nearest_path(path)
    if not path.exists() and (is_here or meant):
        fail(f"{name} is not a directory{meant or '; give the folder of a checkpoint'}")
    try:
        return checkpoint_folder(name)
    except ValueError as error:
        fail(error)


def _require_model(folder: Path) -> None:
    """Leave if a folder holds no model of ours."""
    if not (folder / CONFIG_FILE).is_file():
        inner = sorted(file.parent for file in folder.glob(f"*/{PROCESSOR_FILE}"))
        meant = f"; {inner[-1]} is one" if inner else ""
        fail(f"{folder} is no checkpoint: it has no {CONFIG_FILE}{meant}")
    model_type = read_json(folder / CONFIG_FILE).get("model_type")
    if model_type != MODEL_TYPE:
        fail(f"{folder} is a {model_type!r} model, none of {MODEL_TYPE}: {HOW_TO_MAKE}")
    files = {file.name for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern)}
    if not files:
        fail(f"{folder} holds no weights (*.safetensors): was it copied whole?")
    if (folder / INDEX_FILE).is_file():
        listed = set(read_json(folder / INDEX_FILE).get("weight_map", {}).values())
        if absent := sorted(listed - files):
            fail(f"{folder} lacks {absent[0]}, one of {len(listed)} files of weights: was it copied whole?")


def _base_of(adapter: Path) -> Path:
    """The folder of the model that an adapter changes; leave if it is not there."""
    try:
        return base_folder(adapter)
    except ValueError as error:
        fail(error)


def require_room(folder: Path, max_new_tokens: int) -> None:
    """Leave if the longest response alone is longer than what the model can hold."""
    if not (folder / CONFIG_FILE).is_file():
        return
    text = read_json(folder / CONFIG_FILE).get("text_config", {})
    room = text.get("max_position_embeddings")
    if isinstance(room, int) and max_new_tokens >= room:
        fail(
            f"a prompt and a response of --max-new-tokens {max_new_tokens} do not fit into {room} tokens, "
            "all that this model can hold"
        )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, or leave with what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fail(f"{path} cannot be read as JSON: {error}")
    if not isinstance(content, dict):
        fail(f"{path} holds no JSON object; was it copied whole?")
    return content
