"""Where a checkpoint lies: a folder, or a name on the Hugging Face hub.

Loads no torch, so that a wrong name is told at once.
"""

from __future__ import annotations

import re
from pathlib import Path

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    nowhere = f"{name} is not a directory here"
    try:
        return Path(snapshot_download(str(name), allow_patterns=HUB_FILES))
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
            f"(hf download {name}) and give the folder"
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{nowhere}, and the Hugging Face hub does not give it: {error}") from error
