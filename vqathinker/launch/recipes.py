"""Where the recipes lie, and how they are launched when nobody says.

In a checkout and in an editable installation they are the tree's; a wheel brings them along as
`vqathinker/recipes`.
"""

from __future__ import annotations

import os
import re
from itertools import takewhile
from pathlib import Path

import yaml

from vqathinker.launch.checks import has_gpu
from vqathinker.nearest import or_nearest

PACKAGE = Path(__file__).parents[1]
PLACES = (PACKAGE.parent / "recipes", PACKAGE / "recipes")
STAGED = "tune"  # the recipe whose YAMLs are stages
SCRIPTS = {"grpo": "grpo_lsvq.py", "sft": "sft_lsvq.py", STAGED: "tune.py"}
CPU = "cpu"
ONE_GPU = "one_gpu"
SEVERAL_GPUS = "zero2"
DEVICE = re.compile(r"nvidia\d+")


def recipe_folder() -> Path:
    """The folder of the recipes.

    Raises:
        LookupError: if the installation is incomplete.
    """
    for place in PLACES:
        if (place / "grpo_lsvq.py").is_file():
            return place
    raise LookupError(f"there are no recipes in {PLACES[1]}; install vqathinker again")


def recipe_file(recipe: str) -> Path:
    """The script of a recipe, a key of `SCRIPTS`."""
    return recipe_folder() / SCRIPTS[recipe]


def settings_file(recipe: str) -> Path:
    """The YAML of a recipe that lies beside its script."""
    return recipe_file(recipe).with_suffix(".yaml")


def stages() -> dict[str, Path]:
    """The shipped stages of tuning by name, and what can be laid over them."""
    return _shipped("stages")


def stage_file(name: str) -> Path:
    """A stage of tuning: a file, or the name of a shipped one.

    Raises:
        ValueError: if it is neither.
    """
    return _file_or_shipped("--config", name, stages())


def launch_file(name: str | Path) -> Path:
    """A configuration of `accelerate`: a file, or the name of a shipped one.

    Raises:
        ValueError: if it is neither.
    """
    return _file_or_shipped("--config_file", name, _shipped("accelerate"))


def _shipped(folder: str) -> dict[str, Path]:
    """The YAMLs of a folder of recipes by name."""
    return {file.stem: file for file in sorted((recipe_folder() / folder).glob("*.yaml"))}


def _file_or_shipped(option: str, name: str | Path, shipped: dict[str, Path]) -> Path:
    """A file, or that of a name."""
    if Path(name).is_file():
        return Path(name)
    if str(name) in shipped:
        return shipped[str(name)]
    known = ", ".join(sorted(shipped))
    hint = or_nearest(Path(name).stem, list(shipped))
    raise ValueError(f"{option} {name}: neither a file nor one of {known}{hint}")


def default_launch(num_processes: int | None, num_machines: int = 1) -> tuple[Path, int | None] | None:
    """The shipped configuration for this machine and the number of processes, if `accelerate` has none.

    Args:
        num_processes: of all machines, as told; None for one per GPU.
        num_machines: with as many GPUs as this one.
    """
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface"), "accelerate/default_config.yaml")
    if home.expanduser().is_file():
        return None
    if not has_gpu() or visible_gpus() == []:
        return launch_file(CPU), num_processes
    number = num_processes or num_gpus() * num_machines
    return (launch_file(SEVERAL_GPUS), number) if number > 1 else (launch_file(ONE_GPU), 1)


def visible_gpus() -> list[str] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, as it names them; None where it says nothing.

    CUDA takes those before the first that is none, so -1 hides all.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return None
    stripped = (part.strip() for part in named.split(","))
    return list(takewhile(lambda part: part not in {"", "-1"}, stripped))


def num_gpus() -> int:
    """NVIDIA's GPUs that a process would see, at least one."""
    visible = visible_gpus()
    if visible is not None:
        return max(1, len(visible))
    devices = Path("/dev")
    return max(1, sum(DEVICE.fullmatch(path.name) is not None for path in devices.iterdir()))


def launch_values(file: Path) -> dict[str, object]:
    """What a configuration of `accelerate` says.

    Raises:
        ValueError: if it is none.
    """
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or "distributed_type" not in values:
        raise ValueError(f"{file} is no configuration of accelerate (no distributed_type)")
    return values
