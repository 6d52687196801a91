"""Whether the rewards and perturbations that a recipe names exist and take their arguments."""

from __future__ import annotations

from typing import Any

from vqathinker.launch.settings import Settings
from vqathinker.plugins import Plugin, build, own_package

NONE = ("none", "", None)
REGISTRIES = {"rewards": ("rewards", "REWARDS"), "perturbations": ("perturbations", "PERTURBATIONS")}


def build_plugins(settings: Settings, kind: str) -> list[Plugin]:
    """The plug-ins of a setting.

    Args:
        settings: the recipe's.
        kind: "rewards" or "perturbations".

    Raises:
        ValueError: for an unknown name or argument.
    """
    package, registry = REGISTRIES[kind]
    known: Any = getattr(own_package(package), registry)
    items = [item for item in settings[kind] if item not in NONE]
    declares = ("tasks", "datasets") if kind == "rewards" else ()
    return build(items, known, group=f"vqathinker.{kind}", declares=declares)


def check_plugins(settings: Settings) -> None:
    """Refuse unknown names and arguments.

    Raises:
        ValueError: naming them.
    """
    problems = []
    for kind in REGISTRIES:
        try:
            if kind in settings.options:
                build_plugins(settings, kind)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
