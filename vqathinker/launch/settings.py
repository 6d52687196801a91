"""The settings of a recipe: its YAML and the command line, which wins. Read without torch.

Names, types and defaults come from the dataclasses' source; the dataclasses themselves are built later, by
`Settings.build`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vqathinker.launch.fields import UNKNOWN, Field, Kind, read_fields
from vqathinker.launch.values import from_words, from_yaml
from vqathinker.nearest import or_nearest

CONFIG = "config"
# what other trainers call an option
OTHER_NAMES = {
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "steps": "max_steps",
}
ENVIRONMENT = "env"  # a YAML's mapping of environment variables
MODEL = ("trl/trainer/model_config.py", "ModelConfig")
SETUP = "vqathinker/training/setup.py"
# the dataclasses of each recipe, ours first
LOSSES = ("vqathinker/training/sft/objective.py", "LossConfig")
SUPERVISED = ((SETUP, "SupervisedDataConfig"), LOSSES, ("trl/trainer/sft_config.py", "SFTConfig"), MODEL)
RECIPES = {
    "grpo": ((SETUP, "DataConfig"), ("vqathinker/training/grpo/config.py", "TrainingConfig"), MODEL),
    "sft": SUPERVISED,
    "tune": SUPERVISED,
}
# what the recipe's collator relies on, whatever TRL's defaults are
OWN_COLLATOR = {
    "remove_unused_columns": False,
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "max_length": None,
}
FIXED: dict[str, dict[str, Any]] = {
    "grpo": {"remove_unused_columns": False},
    "sft": OWN_COLLATOR,
    "tune": OWN_COLLATOR,
}


@dataclass(frozen=True)
class Settings:
    """Everything that a run was told.

    Attributes:
        recipe: a key of `RECIPES`.
        options: all that there are, by name.
        given: the values told, by name.
        origin: where each was told: "--beta", or "beta (mine.yaml)".
    """

    recipe: str
    options: Mapping[str, Field]
    given: Mapping[str, Any]
    origin: Mapping[str, str]

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  any option's value
        """The value told, else the default (`UNKNOWN` where only the dataclass computes it)."""
        return self.given[name] if name in self.given else self.default(name)

    def default(self, name: str) -> Any:  # noqa: ANN401  any option's value
        """The value where none is told."""
        return FIXED[self.recipe].get(name, self.options[name].default)

    def get(self, name: str) -> Any:  # noqa: ANN401  any option's value
        """The value of an option that only some recipes have, None in the others."""
        return self[name] if name in self.options else None

    def is_told(self, name: str) -> bool:
        """Whether a value was told that differs from the default."""
        return name in self.given and self.given[name] != self.default(name)

    def is_on_command_line(self, name: str) -> bool:
        """Whether the value comes from the command line, which is about one run."""
        return self.origin.get(name, "").startswith("--")

    def build(self, *types: type) -> tuple[Any, ...]:
        """One object of each dataclass from the values told."""
        values = FIXED[self.recipe] | dict(self.given)
        return tuple(
            kind(**{f.name: values[f.name] for f in fields(kind) if f.init and f.name in values})
            for kind in types
        )


@cache
def options_of(recipe: str) -> dict[str, Field]:
    """Every option of a recipe, ours first."""
    return {
        name: field
        for file, owner in RECIPES[recipe]
        for name, field in read_fields(file, owner).items()
        if _can_be_told(field.kind)
    }


def _can_be_told(kind: Kind) -> bool:
    return bool(kind.scalars or kind.items is not None or kind.is_mapping)


def merge(
    recipe: str,
    default_config: Path | None,
    arguments: Sequence[str],
    *,
    shared: Path | None = None,
    others: Sequence[str] = (),
    find: Callable[[str], Path] = Path,
) -> Settings:
    """Read the YAMLs named by `--config`, or the default one, and the command line; what comes later wins.

    Args:
        recipe: a key of `RECIPES`.
        default_config: the YAML file used without `--config`; None where one has to be named.
        arguments: the command line's.
        shared: a YAML file that lies under all others.
        others: options of the program around it, which a wrong name may have meant.
        find: the file that a word after `--config` means.

    Raises:
        ValueError: naming every unknown option and every value that cannot be.
        OSError: if the YAML file cannot be read.
        yaml.YAMLError: if it is none.
    """
    options = options_of(recipe)
    words, problems = _split(arguments, options, others)
    files = words.pop(CONFIG, [] if default_config is None else [str(default_config)])
    if not files:
        raise ValueError("--config: expected one or more YAML files after it")
    # pairs, for a file that is named again wins again
    layers = [(file, find(file)) for file in files]
    if shared is not None:
        layers.insert(0, (str(shared), shared))
    given: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for file, path in layers:
        for name, value in read_yaml(path).items():
            if name == ENVIRONMENT and isinstance(value, dict):
                os.environ.update({str(key): str(entry) for key, entry in value.items()})
                continue
            origin[name] = f"{name} ({file})"
            try:
                given[name] = from_yaml(_known(name, options), value)
            except ValueError as error:
                problems.append(f"{origin[name]}: {error}")
    for name, values in words.items():
        origin[name] = f"--{name}"
        try:
            given[name] = from_words(options[name], values)
        except ValueError as error:
            problems.append(f"--{name}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return Settings(recipe, options, given, origin)


def _known(name: object, options: Mapping[str, Field]) -> Field:
    if name not in options:
        raise ValueError(f"there is no such setting{or_nearest(str(name), list(options))}")
    return options[str(name)]


def values_of(options: Mapping[str, Field], written: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a YAML by name; settings that no longer exist are left out."""
    return {name: from_yaml(options[name], value) for name, value in written.items() if name in options}


def read_yaml(file: Path) -> dict[str, Any]:
    """The settings written in a file.

    Raises:
        ValueError: if it holds no settings, or one twice.
        OSError: if it cannot be read.
        yaml.YAMLError: if it is no YAML.
    """
    if file.is_dir():
        raise ValueError(f"--config {file} is a folder, expected a YAML file")
    values = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeys)
    if not isinstance(values, dict):
        raise ValueError(f"{file}: expected a mapping of settings, `name: value` on each line")
    return values


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a setting that is written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML's, which lets the last one win."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise ValueError(f"{key.value} is set twice in the YAML, line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _split(
    arguments: Sequence[str], options: Mapping[str, Field], others: Sequence[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """The words after each option, and what cannot be understood."""
    found: dict[str, list[str]] = {}
    problems: list[str] = []
    current: list[str] | None = None
    for word in _parted(arguments):
        if not word.startswith("--"):
            if current is None:
                problems.append(f"{word!r}: expected an option, as in --name value")
            else:
                current.append(word)
            continue
        name = word[2:].replace("-", "_")
        positive = name.removeprefix("no_")
        current = []
        if name == CONFIG:
            current = found.setdefault(name, [])  # files of a second one are laid over those of the first
        elif name in options:
            found[name] = current
        elif positive in options and bool in options[positive].kind.scalars:
            found[positive] = ["false"]
            current = found[positive]  # words after it are told as too many
        else:
            known = [*options, *others, CONFIG]
            meant = OTHER_NAMES.get(name, name)  # which is known then, and the nearest to itself
            hint = or_nearest(meant, known).replace("mean ", "mean --")
            problems.append(f"{word}: there is no such option{hint}")
    return found, problems


def _parted(arguments: Sequence[str]) -> Iterator[str]:
    """The words with `--name=value` in two."""
    for word in arguments:
        name, equals, value = word.partition("=")
        if equals and name.startswith("--"):
            yield name
            yield value
        else:
            yield word


__all__ = ["FIXED", "RECIPES", "UNKNOWN", "Settings", "merge", "options_of"]
