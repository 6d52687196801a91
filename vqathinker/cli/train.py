"""`vqathinker train`: a recipe through `accelerate launch`, from anywhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from vqathinker.launch import read_settings, user_errors
from vqathinker.launch.checks import WITHOUT_DEEPSPEED
from vqathinker.launch.errors import WITHOUT_NOTES
from vqathinker.launch.recipes import (
    ONE_GPU,
    default_launch,
    launch_file,
    launch_values,
    recipe_file,
    settings_file,
    visible_gpus,
)
from vqathinker.launch.settings import RECIPES
from vqathinker.nearest import or_nearest

# options of `accelerate launch` that are passed on
LAUNCHER = (
    "config_file", "num_processes", "num_machines", "machine_rank", "main_process_ip", "main_process_port",
    "gpu_ids",
)  # fmt: skip
HELP = {"--help", "-h"}
USAGE = """\
usage: vqathinker train grpo|sft [--config_file FILE] [--num_processes N] [--config FILE ...]
                                 [--OPTION VALUE ...]
       vqathinker train tune --config STAGE ...  as above

Train as the recipes do: GRPO, supervised fine-tuning, or a stage of tuning (a file, or the name of one in
recipes/stages). `vqathinker train grpo --help` lists all options.

  --config_file FILE    launch configuration: a file, or cpu, cpu_two, one_gpu, zero2, zero3, fsdp2; if
                        omitted, your default one of accelerate, or else by the GPUs found
  --num_processes N     processes of all machines, one per GPU; the configuration's if omitted
  --num_machines, --machine_rank, --main_process_ip, --main_process_port, --gpu_ids
                        as for accelerate launch

Exit code 2: a wrong argument, setting or file.
"""


@dataclass(frozen=True)
class LaunchPlan:
    """What the launcher is told.

    Attributes:
        file: configuration of `accelerate`, None for the user's default one.
        options: further options of `accelerate launch`.
        on_cpu: whether the processes leave the GPUs alone.
        num_processes: of all machines, None if only `accelerate` knows.
    """

    file: Path | None
    options: dict[str, str]
    on_cpu: bool
    num_processes: int | None


def train(
    context: typer.Context, recipe: Annotated[str, typer.Argument(help="grpo, sft or tune.")] = ""
) -> None:
    """Train: `vqathinker train grpo --help` lists all options."""
    if recipe in {"", *HELP}:
        typer.echo(USAGE, nl=False)
        raise typer.Exit(0 if recipe else 2)
    with user_errors():
        if recipe not in RECIPES:
            known = ", ".join(RECIPES)
            raise ValueError(f"train {recipe}: expected one of {known}{or_nearest(recipe, list(RECIPES))}")
        script = recipe_file(recipe)
        launcher, arguments = split(context.args)
        launch = plan_launch(launcher)
        command = f"vqathinker train {recipe} [--config_file FILE] [--num_processes N]"
        with environment({WITHOUT_NOTES: "1"}):  # the recipe says them
            read_settings(recipe, settings_file(recipe), arguments, command=command, others=LAUNCHER)
    if launch.file is not None and "config_file" not in launcher:
        typer.echo(f"launching with {launch.file} (--config_file chooses another)", err=True)
    raise typer.Exit(run(launch, script, arguments))


def split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The launcher's options, and the recipe's.

    Raises:
        ValueError: if a launcher's option has no value.
    """
    launcher: dict[str, str] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not word.startswith("--") or name not in LAUNCHER:
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if not value or value.startswith("--"):
            raise ValueError(f"--{name}: expected a value after it")
        launcher[name] = value
    return launcher, rest


def plan_launch(told: dict[str, str]) -> LaunchPlan:
    """How the processes are started.

    Raises:
        ValueError: for a configuration or a number of processes that cannot be.
    """
    num_processes = _number(told, "num_processes")
    options = {name: value for name, value in told.items() if name not in {"config_file", "num_processes"}}
    if "config_file" in told:
        file = launch_file(told["config_file"])
    else:
        found = default_launch(num_processes, _number(told, "num_machines") or 1)
        if found is None:
            return LaunchPlan(None, options, on_cpu=False, num_processes=num_processes)
        file, num_processes = found
    values = launch_values(file)
    visible = visible_gpus()
    if visible and file == launch_file(ONE_GPU):  # whose "0" would be another card
        options.setdefault("gpu_ids", visible[0])
    if values["distributed_type"] == "DEEPSPEED" and find_spec("deepspeed") is None:
        raise ValueError(WITHOUT_DEEPSPEED)
    if num_processes is None:
        num_processes = int(str(values.get("num_processes", 1)))
    return LaunchPlan(file, options, on_cpu=bool(values.get("use_cpu")), num_processes=num_processes)


def _number(told: dict[str, str], name: str) -> int | None:
    """A number of the launcher's, None if it was not told."""
    number = told.get(name)
    if number is not None and (not number.isdecimal() or int(number) < 1):
        raise ValueError(f"--{name}: is {number!r}, expected 1 or more")
    return None if number is None else int(number)


def run(launch: LaunchPlan, script: Path, arguments: Sequence[str]) -> int:
    """Start the processes and wait for them; the status of the first that failed, 0 if none did."""
    # torch takes seconds to import
    from subprocess import CalledProcessError

    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    words = [f"--{name}={value}" for name, value in launch.options.items()]
    variables: dict[str, str] = {}
    if launch.file is not None:
        words += ["--config_file", str(launch.file)]
    if launch.num_processes is not None:
        words += ["--num_processes", str(launch.num_processes)]
    if launch.on_cpu and launch.num_processes is not None:
        share = max(1, (os.cpu_count() or 1) // launch.num_processes)
        words += ["--num_cpu_threads_per_process", os.environ.get("OMP_NUM_THREADS", str(share))]
        if launch.num_processes > 1:
            words.append("--multi_gpu")  # the launcher that starts several, on a CPU too
            variables["ACCELERATE_USE_CPU"] = "true"
    parsed = launch_command_parser().parse_args([*words, str(script), *arguments])
    # the processes have said what was wrong
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        with environment(variables):
            launch_command(parsed)
    except CalledProcessError as error:
        return status(error.returncode)
    except ChildFailedError as error:
        return status(error.get_first_failure()[1].exitcode)
    return 0


def status(code: int) -> int:
    """A process's status as a shell gives it; a signal's is 128 and its number.

    >>> status(2), status(-9)
    (2, 137)
    """
    return code if code >= 0 else 128 - code


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
