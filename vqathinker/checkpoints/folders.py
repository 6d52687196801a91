"""Where a checkpoint lies: a folder, or a name on the hub; which one an adapter belongs to, which a run left.

Loads no torch, so that a wrong name is told at once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.json"
ADAPTER_FILE = "adapter_config.json"
PROCESSOR_FILE = "processor_config.json"
INDEX_FILE = "model.safetensors.index.json"
SETTINGS_FILE = "settings.yaml"  # of a run, in its output folder
STATE_FILE = "trainer_state.json"  # transformers', in each checkpoint of a run
CHECKPOINT = re.compile(r"checkpoint-(\d+)")  # how transformers calls the folder of one
HOW_TO_MERGE = "vqathinker merge {adapter} OUT"
HUB_CACHE = re.compile(r"models--([^/]+)--([^/]+)/snapshots/")
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_FILE = re.compile(rf"({HUB_ID.pattern})/([\w./-]+\.(?:pyth|pth|pt))")
UMASK = os.umask(0o077)  # what it is can only be learned by changing it
os.umask(UMASK)


def open_to_others(files: Iterable[Path]) -> None:
    """Give files the permissions of any new one: safetensors keeps what it writes to its owner."""
    for file in files:
        file.chmod(0o666 & ~UMASK)


def is_hub_id(name: str | Path) -> bool:
    """Whether a name is none of something here, and could be `owner/name` on the hub.

    >>> is_hub_id("OpenGVLab/InternVL3-8B-hf"), is_hub_id("runs/first/final"), is_hub_id("./final")
    (True, False, False)
    """
    return HUB_ID.fullmatch(str(name)) is not None and not Path(name).exists()


def checkpoint_folder(name: str | Path) -> Path:
    """The folder of a checkpoint; one that only the hub has is fetched into the hub's cache first.

    Args:
        name: a folder, or `owner/name` on the hub. A folder of that name wins.

    Raises:
        ValueError: if it is neither, or the hub does not give it.
    """
    if Path(name).is_dir():
        return Path(name)
    if not is_hub_id(name):
        fault = "is a file, not a directory" if Path(name).exists() else "is not a directory"
        raise ValueError(
            f"{name} {fault}; give a checkpoint's folder, or its owner/name on the Hugging Face hub"
        )
    from huggingface_hub import snapshot_download

    with _hub_errors(f"{name} is not a directory here", f"hf download {name}"):
        return Path(snapshot_download(str(name), allow_patterns=HUB_FILES))


def is_hub_file(name: str | Path) -> bool:
    """Whether a name is none of something here, and could be a file of a model on the hub.

    >>> is_hub_file("facebook/slowfast/SLOWFAST_8x8_R50.pyth"), is_hub_file("SLOWFAST_8x8_R50.pyth")
    (True, False)
    """
    return HUB_FILE.fullmatch(str(name)) is not None and not Path(name).parent.exists()


def checkpoint_file(name: str | Path) -> Path:
    """A file of weights; one that only the hub has is fetched into the hub's cache first.

    Args:
        name: a file, or `owner/name/FILE` on the hub.

    Raises:
        ValueError: if it is neither, or the hub does not give it.
    """
    found = HUB_FILE.fullmatch(str(name))
    if Path(name).is_file() or found is None or not is_hub_file(name):
        return Path(name)
    from huggingface_hub import hf_hub_download

    repository, file = found.groups()
    with _hub_errors(f"{name} is not a file here", f"hf download {repository} {file}"):
        return Path(hf_hub_download(repository, file))


@contextmanager
def _hub_errors(nowhere: str, how: str) -> Iterator[None]:
    """What the hub raises, as a sentence with the way out.

    Args:
        nowhere: begins the sentence.
        how: a command that fetches it.

    Raises:
        ValueError: if the hub does not give it.
    """
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise ValueError(
            f"{nowhere}, and the Hugging Face hub gives it only to those who accepted its terms: do so on "
            "its page and log in (hf auth login)"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{nowhere}, and the Hugging Face hub has no model of that name (or a private one: hf auth login)"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"{nowhere}, and the Hugging Face hub cannot be reached; fetch it where there is a network "
            f"({how}) and give what was fetched"
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{nowhere}, and the Hugging Face hub does not give it: {error}") from error


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    return Path(folder, ADAPTER_FILE).is_file() and not Path(folder, CONFIG_FILE).is_file()


def base_folder(adapter: Path, base: str | Path | None = None) -> Path:
    """The folder of the checkpoint that an adapter was trained on.

    Args:
        adapter: its folder.
        base: where the base is, if not where the adapter says.

    Raises:
        ValueError: if there is no such checkpoint, or it is an adapter itself.
    """
    named = base or adapter_settings(adapter).get("base_model_name_or_path")
    if not named:
        raise ValueError(f"the adapter {adapter} names no base; say where it is (merge … --base DIR)")
    # a hub name is written down as the path of its cache, which another machine does not have
    cached = HUB_CACHE.search(str(named))
    if cached and not Path(named).is_dir():
        named = "/".join(cached.groups())
    try:
        found = checkpoint_folder(named)
    except ValueError as error:
        if base:  # the user named it: the error says what is wrong with that
            raise
        raise ValueError(
            f"the adapter {adapter} was trained on {named}, which is not there ({error}); put it "
            f"back, or say where it is now: {HOW_TO_MERGE.format(adapter=adapter)} --base DIR"
        ) from error
    if is_adapter(found):
        raise ValueError(f"{found}, the base of {adapter}, is an adapter itself; merge that first")
    return found


def checkpoints_in(output: Path) -> dict[int, Path]:
    """The whole checkpoints in the output folder of a run by their steps."""
    return {
        int(match[1]): path
        for path in (output.iterdir() if output.is_dir() else ())
        if (match := CHECKPOINT.fullmatch(path.name)) and (path / STATE_FILE).is_file()
    }


def adapter_settings(adapter: Path) -> dict[str, Any]:
    """The entries of an adapter's configuration.

    Raises:
        ValueError: if they cannot be read.
    """
    try:
        values = json.loads((adapter / ADAPTER_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{adapter / ADAPTER_FILE} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{adapter / ADAPTER_FILE} is not a JSON object")
    return values
