"""The shipped configurations are read by the tools that they are for."""

from argparse import Namespace
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

FOLDER = Path(__file__).parents[1] / "recipes" / "accelerate"
CONFIGS = sorted(FOLDER.glob("*.yaml"))

# name -> distributed type, mixed precision, processes
EXPECTED = {
    "cpu": ("NO", "no", 1),
    "one_gpu": ("NO", "bf16", 1),
    "zero2": ("DEEPSPEED", "bf16", 8),
    "zero3": ("DEEPSPEED", "bf16", 8),
    "fsdp2": ("FSDP", "bf16", 8),
}


def launch_arguments(path: Path) -> Namespace:
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "train.py"])
    return _validate_launch_command(arguments)[0]


def test_every_config_is_expected_here() -> None:
    assert {path.stem for path in CONFIGS} == set(EXPECTED)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_the_config(path: Path) -> None:
    config = load_config_from_file(str(path))
    found = (config.distributed_type.value, config.mixed_precision, config.num_processes)
    assert found == EXPECTED[path.stem]
    assert config.use_cpu == (path.stem == "cpu")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_config_opens_with_its_launch_line(path: Path) -> None:
    opening = path.read_text(encoding="utf-8").splitlines()[0]
    assert opening.startswith(f"# accelerate launch --config_file recipes/accelerate/{path.name} ")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_gradient_accumulation_is_left_to_the_trainer(path: Path) -> None:
    assert "gradient_accumulation_steps" not in load_config_from_file(str(path)).deepspeed_config


@pytest.mark.parametrize(("name", "stage"), [("zero2", 2), ("zero3", 3)])
def test_the_launcher_takes_the_zero_stage(name: str, stage: int) -> None:
    arguments = launch_arguments(FOLDER / f"{name}.yaml")
    assert arguments.use_deepspeed
    assert arguments.zero_stage == stage
    assert arguments.gradient_accumulation_steps is None


def test_the_launcher_takes_the_second_fsdp() -> None:
    arguments = launch_arguments(FOLDER / "fsdp2.yaml")
    assert arguments.use_fsdp
    assert str(arguments.fsdp_version) == "2"
