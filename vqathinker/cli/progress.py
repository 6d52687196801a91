"""How far a long command is: a bar on a terminal, a line every some seconds elsewhere, both on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

LINE_EVERY = 10.0  # seconds
T = TypeVar("T")


class Pace(ProgressColumn):
    """Pace since the start, and the time left: videos come in batches, with pauses."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The column of one task."""
        return Text(pace(task, self.unit))


def pace(task: Task, unit: str) -> str:
    """Say how fast a task goes and how long it will take; nothing before its first step."""
    if not task.completed or not task.elapsed or task.total is None:
        return ""
    left = (task.total - task.completed) * task.elapsed / task.completed
    return f"{task.completed / task.elapsed:.2f} {unit}/s, {in_words(left)} left"


def in_words(seconds: float) -> str:
    """A duration as people say it.

    >>> in_words(42.4), in_words(200), in_words(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class LogLines(Progress):
    """Progress for a log file: plain lines, the first after some seconds, one at the end."""

    def __init__(self, unit: str) -> None:
        super().__init__(console=Console(stderr=True), disable=True)
        self.unit = unit
        self._said = time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task; say so if nothing was said for some seconds."""
        super().update(task_id, **changes)
        self._say(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Count a step; say so if nothing was said for some seconds, or it was the last."""
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        task = self._tasks[task_id]
        is_last = bool(task.completed) and task.completed == task.total
        if task.total is None or not task.completed:
            return
        if is_last or time.monotonic() - self._said >= LINE_EVERY:
            self._said = time.monotonic()
            speed = pace(task, self.unit)
            line = f"{task.completed:.0f}/{task.total:.0f} {self.unit}, {speed}"
            sys.stderr.write(f"{task.description}: {line}\n")
            sys.stderr.flush()


def make_progress(unit: str) -> Progress:
    """A bar where stderr is a terminal, log lines where it is none."""
    if not sys.stderr.isatty():
        return LogLines(unit)
    # rich would send standard output to the bar's console, where a redirected one must not go
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Pace(unit),
        console=Console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),
    )


def counted(items: Iterable[T], progress: Progress, task: TaskID) -> Iterator[T]:
    """The items, each counted as a step of a task once it has been used."""
    for item in items:
        yield item
        progress.advance(task)
