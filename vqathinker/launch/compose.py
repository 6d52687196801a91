"""The course of every recipe: check, load, train, save."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from vqathinker.launch.errors import user_errors
from vqathinker.launch.read import read_settings
from vqathinker.launch.settings import Settings
from vqathinker.types import RunStopped

T = TypeVar("T")  # a trainer of transformers


class Composed(NamedTuple, Generic[T]):
    """What a recipe puts together.

    Attributes:
        trainer: with its model and data.
        checkpoint: to go on from; None for a new run.
        result: the folder that the trained checkpoint goes to.
    """

    trainer: T
    checkpoint: str | None
    result: str


def run_recipe(recipe: str, default_config: Path, compose: Callable[[Settings], Composed[Any]]) -> None:
    """Run a recipe; what the user can correct ends it with one message.

    Args:
        recipe: "grpo" or "sft".
        default_config: the YAML file used without `--config`.
        compose: puts trainer and data together from the settings.
    """
    with user_errors():
        settings = read_settings(recipe, default_config)  # wrong ones are told before torch is imported
        trainer, checkpoint, result = compose(settings)
    with user_errors(RunStopped):
        trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_state()
    trainer.save_model(result)
