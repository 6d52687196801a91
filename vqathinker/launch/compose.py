"""The course of every recipe: check, load, train, save."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from vqathinker.checkpoints.folders import STATE_FILE
from vqathinker.launch.errors import user_errors
from vqathinker.launch.read import read_settings
from vqathinker.launch.settings import Settings
from vqathinker.types import RunStopped

T = TypeVar("T")  # a trainer of transformers
# of a checkpoint, what a resumed run needs beside the model
OF_A_RUN = re.compile(r"(optimizer|scheduler|scaler|rng_state|trainer_state|zero_to_fp32|latest).*")


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
        recipe: a key of `settings.RECIPES`.
        default_config: as for `read_settings`.
        compose: puts trainer and data together from the settings.
    """
    with user_errors():
        settings = read_settings(recipe, default_config)  # wrong ones are told before torch is imported
        trainer, checkpoint, result = compose(settings)
    if checkpoint is not None:
        state = json.loads(Path(checkpoint, STATE_FILE).read_text(encoding="utf-8"))
        if is_done(Path(checkpoint), state, trainer.args):
            if trainer.is_world_process_zero():
                copy_model(Path(checkpoint), state, Path(result), best=trainer.args.load_best_model_at_end)
            return
    with user_errors(RunStopped):
        trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_state()
    trainer.save_model(result)


def is_done(checkpoint: Path, state: Mapping[str, Any], args: Any) -> bool:  # noqa: ANN401  TRL's settings
    """Whether a run has ended with a checkpoint that holds the model; transformers would train on a step."""
    if not any(checkpoint.glob("*.safetensors")):  # FSDP's parts
        return False
    if args.max_steps > 0:
        return bool(state["global_step"] >= args.max_steps)
    return bool(state["epoch"] is not None and state["epoch"] >= args.num_train_epochs)


def copy_model(checkpoint: Path, state: Mapping[str, Any], result: Path, *, best: bool) -> None:
    """Make the result of a run that has ended from its last checkpoint, or from its best one."""
    place = state.get("best_model_checkpoint")
    source = Path(place) if best and place and Path(place).is_dir() else checkpoint
    sys.stderr.write(f"all {state['global_step']} steps are done; {result} is a copy of {source}\n")
    result.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and not OF_A_RUN.fullmatch(file.name):
            shutil.copy2(file, result / file.name)
