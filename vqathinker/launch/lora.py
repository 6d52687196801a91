"""What can be known to be wrong about a run that starts from an adapter, before torch is imported."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from vqathinker.checkpoints.folders import HOW_TO_MERGE, adapter_settings, base_folder, is_adapter
from vqathinker.launch.settings import Settings

MODEL = "model_name_or_path"
LANGUAGE_LAYERS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"  # that an adapter changes by default
OWN_SETTINGS = {  # TRL's name → PEFT's
    "lora_r": "r",
    "lora_alpha": "lora_alpha",
    "lora_target_modules": "target_modules",
    "lora_target_parameters": "target_parameters",
    "lora_modules_to_save": "modules_to_save",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
}


def wrong_adapter(settings: Settings) -> Iterator[str]:
    """A base that is not there, and LoRA options that an adapter to be trained on does not have."""
    if settings[MODEL] is None or not is_adapter(settings[MODEL]):
        return
    folder = Path(settings[MODEL])
    try:
        base_folder(folder)
        if settings["use_peft"]:
            yield from other_settings(folder, settings.given)
    except ValueError as error:
        yield f"--{MODEL}: {error}"


def other_settings(adapter: Path, told: Mapping[str, Any]) -> Iterator[str]:
    """LoRA options that contradict the adapter which would be trained on.

    Args:
        adapter: its folder.
        told: the options that were told, by TRL's names; a default contradicts nothing.
    """
    own = adapter_settings(adapter)
    for option, name in OWN_SETTINGS.items():
        held = own.get(name)
        if option in told and _plain(told[option]) != _plain(held):
            yield (
                f"--{option} {told[option]} contradicts the adapter {adapter}, whose {name} is {held}: "
                "leave it out to train that adapter on, or begin a new one on the merged model "
                f"({HOW_TO_MERGE.format(adapter=adapter)})"
            )


def _plain(setting: Any) -> Any:  # noqa: ANN401  names of layers, a number or a switch
    """A setting in one form: names without order, one name alone as itself."""
    if isinstance(setting, str) or not isinstance(setting, Collection):
        return setting
    return sorted(setting) if len(setting) != 1 else next(iter(setting))
