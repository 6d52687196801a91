"""The YAML of a build: stages by name, each with what it starts from and its options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vqathinker.building.stage import ANSWERS_FOLDER, EachStage, WholeStage, Workplace
from vqathinker.building.stages import STAGES
from vqathinker.nearest import or_nearest

MEDIA = "media"  # the first source: every medium, or every row of the labels
KEYS = ("about", "seed", "stages", "laptop")
OWN_KEYS = ("stage", "from")


@dataclass(frozen=True)
class Plan:
    """One stage of a recipe.

    Attributes:
        name: of the stage.
        kind: key of `STAGES`.
        sources: names of the stages that it reads, `media` for the first.
        options: arguments of its class.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def is_each(self) -> bool:
        """Whether it makes something of every sample alone."""
        stage = STAGES[self.kind]
        return isinstance(stage, type) and issubclass(stage, EachStage)

    def make(self, place: Workplace) -> EachStage | WholeStage:
        """The stage itself.

        Raises:
            ValueError: naming the stage, if an option cannot be used.
        """
        try:
            return STAGES[self.kind](place, **self.options)
        except (ValueError, TypeError) as error:
            raise ValueError(f"stage {self.name!r}: {error}") from error


@dataclass(frozen=True)
class Recipe:
    """A build.

    Attributes:
        stages: in order; the last one's samples are what is built.
        seed: of everything that is drawn.
        about: what it builds, in a sentence.
    """

    stages: tuple[Plan, ...]
    seed: int = 0
    about: str = ""
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(plan.name for plan in self.stages))

    @classmethod
    def from_file(cls, path: str | Path, *, laptop: bool = False, changes: Sequence[str] = ()) -> Recipe:
        """Read a recipe.

        Args:
            path: of the YAML.
            laptop: whether its stages are those under `laptop`, which need neither weights nor a server.
            changes: `seed=1` or `STAGE.OPTION=VALUE` each, laid over it.

        Raises:
            ValueError: naming the file and the key, with the nearest one there is.
            OSError: if it cannot be read.
        """
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("no mapping")
            if laptop and "laptop" not in content:
                raise ValueError("it has no stages for a laptop")
            if laptop:
                content["stages"] = content["laptop"]
            for change in changes:
                _change(content, change)
            return cls.from_dict(content)
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Recipe:
        """Check a recipe's names, sources and options.

        Raises:
            ValueError: naming what is wrong, with the nearest that there is.
        """
        _require_known(content, KEYS, "the recipe")
        if not isinstance(content.get("stages"), dict) or not content["stages"]:
            raise ValueError("it lists no stages")
        plans: list[Plan] = []
        for name, given in content["stages"].items():
            known = [MEDIA, *(plan.name for plan in plans)]
            plans.append(_plan(str(name), given, known))
        return cls(tuple(plans), int(content.get("seed", 0)), str(content.get("about", "")))


def _plan(name: str, given: Any, before: Sequence[str]) -> Plan:  # noqa: ANN401  what a YAML holds
    """A stage, whose sources have to come before it."""
    if not isinstance(given, dict) or "stage" not in given:
        raise ValueError(f"the stage {name!r} needs a key 'stage': {', '.join(STAGES)}")
    # the name becomes that of a folder, beside that of the answers
    if name in (*before, ANSWERS_FOLDER) or not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(
            f"{name!r} cannot be the name of a stage: one of letters, digits, _ and -, used once"
        )
    kind = given["stage"]
    if kind not in STAGES:
        raise ValueError(f"there is no stage {kind!r}{or_nearest(str(kind), list(STAGES))}")
    options = {key: value for key, value in given.items() if key not in OWN_KEYS}
    # a mixture names what it mixes; any other stage goes on from the one before
    named = options.get("parts") if kind == "mix" else given.get("from")
    sources = (before[-1],) if named is None else (named,) if isinstance(named, str) else tuple(named)
    for source in sources:
        if source not in before:
            raise ValueError(
                f"stage {name!r}: there is no {source!r} before it{or_nearest(str(source), list(before))}"
            )
    if len(sources) > 1 and kind != "mix":
        raise ValueError(f"stage {name!r}: {kind} takes one source, not {', '.join(sources)}")
    # the arguments of the class are the options; one that hands options on checks them when it is made
    parameters = inspect.signature(STAGES[kind]).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        _require_known(options, [key for key in parameters if key != "place"], f"stage {name!r}")
    absent = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.KEYWORD_ONLY
        and key not in options
    ]
    if absent:
        raise ValueError(f"stage {name!r}: {kind} needs {absent[0]!r}")
    return Plan(name, kind, sources, options)


def _require_known(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise ValueError(f"{where} has no key {key!r}{or_nearest(str(key), list(known))}")


def _stage_of(content: dict[str, Any], name: str) -> dict[str, Any]:
    stages = content.get("stages") or {}
    if name not in stages:
        raise ValueError(f"there is no stage {name!r}{or_nearest(name, list(stages))}")
    found: dict[str, Any] = stages[name]
    return found


def _change(content: dict[str, Any], change: str) -> None:
    """Lay `seed=1` or `STAGE.OPTION=VALUE` over a recipe."""
    key, has_value, value = change.partition("=")
    stage, has_option, option = key.partition(".")
    if not has_value or (not has_option and key != "seed"):
        raise ValueError(f"{change!r}: expected seed=NUMBER or STAGE.OPTION=VALUE")
    if has_option:
        _stage_of(content, stage)[option] = yaml.safe_load(value)
    else:
        content["seed"] = yaml.safe_load(value)
