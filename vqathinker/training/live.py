"""What a user sees while a recipe trains: one line per logging step. Everything else goes to a log file."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.utils import logging as transformers_logging

from vqathinker.training.validation import COUNTS, FIGURES

LOG_FILE = "train.log"
RECORD = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LINES_PER_HEADER = 30
MIN_WIDTH = 6
NOTHING = "-"  # a value that is undefined, such as a correlation of equal scores
MINUTE = 60  # seconds
HOUR = 3600
DAY = 86400

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Column:
    """A figure of every logging step.

    Attributes:
        title: its heading.
        key: under which the trainer logs it.
        format: how it is written.
    """

    title: str
    key: str
    format: str = ".3f"

    @property
    def width(self) -> int:
        """Characters."""
        return max(MIN_WIDTH, len(self.title))

    def cell(self, logs: Mapping[str, Any]) -> str:
        """The figure as written."""
        value = logs.get(self.key)
        is_number = isinstance(value, int | float) and math.isfinite(value)
        return format(value, self.format) if is_number else NOTHING


def grpo_columns(labels: Sequence[str]) -> list[Column]:
    """Reward and its parts, correlation with the labels, distance from the reference, length."""
    return [
        Column("reward", "reward"),
        *(Column(label, f"rewards/{label}/mean") for label in labels),
        Column("SRCC", "scores/srcc"),
        Column("unparsed", "scores/parse_failures", ".0%"),
        Column("KL", "kl", ".4f"),
        Column("tokens", "completions/mean_length", ".0f"),
    ]


SUPERVISED_COLUMNS = [
    Column("loss", "loss", ".4f"),
    Column("token accuracy", "mean_token_accuracy"),
    Column("rate", "learning_rate", ".1e"),
]
TUNING_COLUMNS = [
    Column("loss", "loss", ".4f"),
    *(Column(name, f"loss/{name}", ".4f") for name in ("text", "levels", "pairs")),
    Column("rate", "learning_rate", ".1e"),
]


class LiveTable(TrainerCallback):
    """Writes a table to the terminal as a run goes on, a line at a time, from the main process alone.

    Args:
        columns: what a line shows besides the step, the seconds that one took and the time that is left.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = list(columns)
        self.num_lines = 0
        self.first_step = 0
        self.last_step = 0
        self.start = 0.0
        self.step_start = 0.0
        self.seconds = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Start the clock, after a resume at the step where the run goes on."""
        self.num_lines = 0
        self.first_step = state.global_step
        self.last_step = state.global_step
        self.start = time.perf_counter()
        self.seconds = 0.0
        self._write(
            args, state, f"{state.max_steps} steps; every figure is in {Path(args.output_dir, LOG_FILE)}"
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Time the step, apart from validations and checkpoints."""
        self.step_start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Add its seconds to those since the last line."""
        self.seconds += time.perf_counter() - self.step_start

    def on_log(
        self,
        args: Any,  # noqa: ANN401  TRL's settings
        state: Any,  # noqa: ANN401
        control: Any,  # noqa: ANN401
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the line of a step, of a validation or of the end."""
        if not logs or not state.is_world_process_zero:
            return
        logger.info("step %d: %s", state.global_step, json.dumps(logs, default=str))
        if "train_runtime" in logs:
            self._write(args, state, f"{state.global_step} steps, {duration(logs['train_runtime'])}")
        elif any(key.startswith("eval_") for key in logs):
            self._write(args, state, f"step {state.global_step}, {_validation(logs)}")
        else:
            self._write_step(args, state, logs)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Say where a checkpoint is."""
        logger.info("step %d: saved checkpoint-%d", state.global_step, state.global_step)

    def _write_step(self, args: Any, state: Any, logs: Mapping[str, Any]) -> None:  # noqa: ANN401
        total = str(state.max_steps)
        width = max(len("step"), 2 * len(total) + 1)
        if self.num_lines % LINES_PER_HEADER == 0:
            titles = " ".join(column.title.rjust(column.width) for column in self.columns)
            self._write(args, state, f"{'step':>{width}} {titles} {'s/step':>6} {'left':>10}")
        cells = " ".join(column.cell(logs).rjust(column.width) for column in self.columns)
        seconds = self.seconds / max(1, state.global_step - self.last_step)
        # the mean over the run so far, validations and checkpoints included; videos differ in length
        mean = (time.perf_counter() - self.start) / max(1, state.global_step - self.first_step)
        left = duration(mean * (state.max_steps - state.global_step))
        step = f"{state.global_step}/{total}".rjust(width)
        self._write(args, state, f"{step} {cells} {seconds:>6.1f} {left:>10}")
        self.num_lines += 1
        self.last_step = state.global_step
        self.seconds = 0.0

    def _write(self, args: Any, state: Any, line: str) -> None:  # noqa: ANN401
        """Write a line unless the terminal is to be left alone (`disable_tqdm`)."""
        if state.is_world_process_zero and not args.disable_tqdm:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def show_live(trainer: Trainer, columns: Sequence[Column]) -> None:
    """Put the table in the place of what transformers prints."""
    for printed in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
        trainer.remove_callback(printed)
    trainer.add_callback(LiveTable(columns))


@contextmanager
def log_file(folder: str | Path, *, write: bool) -> Iterator[None]:
    """Keep what is logged in `train.log`, after what a run that is resumed wrote.

    Args:
        folder: the output folder.
        write: whether this process writes it.
    """
    if not write:
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    kept = logging.FileHandler(Path(folder, LOG_FILE), encoding="utf-8")
    kept.setFormatter(logging.Formatter(RECORD))
    handlers: list[logging.Handler] = [kept]
    # once the root has a handler, logging itself no longer writes warnings to the terminal
    if not root.handlers:
        shown = logging.StreamHandler()
        shown.setLevel(logging.WARNING)
        handlers.append(shown)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the terminal has the table
    logger.addHandler(kept)
    for handler in handlers:
        root.addHandler(handler)
    transformers_logging.add_handler(kept)
    try:
        yield
    finally:
        transformers_logging.remove_handler(kept)
        for handler in handlers:
            root.removeHandler(handler)
        logger.removeHandler(kept)
        logger.propagate = True
        logger.setLevel(level)
        kept.close()


def duration(seconds: float) -> str:
    """A time in words.

    >>> [duration(value) for value in (8.4, 125, 3590, 4000, 200000)]
    ['8 s', '2 min', '59 min', '1 h 06 min', '2 d 7 h']
    """
    whole = round(seconds)
    if whole < 2 * MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def _validation(logs: Mapping[str, Any]) -> str:
    """The figures of a validation: correlations, how varied scores are and what had none, or the loss."""
    shown = [
        Column("SRCC", "eval_srcc").cell(logs),
        Column("PLCC", "eval_plcc").cell(logs),
        Column("RMSE", "eval_rmse").cell(logs),
    ]
    if "eval_srcc" not in logs:
        return f"validation: loss {Column('loss', 'eval_loss', '.4f').cell(logs)}"
    counts = [
        f"{int(logs[f'eval_{name}'])} {FIGURES[name].title}" for name in COUNTS if logs.get(f"eval_{name}")
    ]
    figures = f"SRCC {shown[0]}, PLCC {shown[1]}, RMSE {shown[2]}"
    return f"validation: {figures}" + (f" ({', '.join(counts)})" if counts else "")
