"""Plug-ins called on made-up input before a run: what is wrong with one is said at once, with its name."""

from __future__ import annotations

import math
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, cycle, islice, zip_longest
from typing import Any

from datasets import Dataset

from perturbations import draw
from rewards import evaluate
from rewards.check import metrics_of
from vqathinker import answers
from vqathinker.data.label_rows import tasks_of
from vqathinker.records import Record, collect
from vqathinker.training.grpo.config import TrainingConfig
from vqathinker.types import Perturbation, Reward, RolloutBatch

REASONING = ("sharp and steady", "noisy, and the motion stutters from time to time")
SHAPES = "target has the shape (N,), scores have (N, K): batch.target[:, None] goes with them"
NUM_DRAWS = 20
NOTE_AFTER = 15.0  # seconds
AGAIN_AFTER = 1.0  # seconds, for a plug-in that catches the exception which is to end it
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


class Overdue(BaseException):
    """Ends a plug-in that takes too long; no `except Exception` of a loop that tries again catches it."""


def rehearse_rewards(
    rewards: Mapping[str, Reward], dataset: Dataset, args: TrainingConfig, *, with_twins: bool
) -> None:
    """Call every reward once on made-up responses: right, not parsing, wrong, and so on.

    Raises:
        ValueError: naming a reward that fails, takes too long or returns anything but finite (N, K) numbers.
    """
    twins = _made_up(dataset, args)
    batch = twins if with_twins else replace(twins, perturbed=None)
    for label, reward in rewards.items():
        if getattr(reward, "runs_once", False) and args.process_index != 0:
            continue  # the main process asks whom it asks
        with time_limit(f"reward {label!r}", args.rehearsal_seconds):
            try:
                evaluate(reward, batch, label)
            except RuntimeError as error:
                if batch.perturbed is None and _misses_twins(reward, twins, label, error):
                    raise ValueError(
                        f"reward {label!r} reads batch.perturbed, which is None unless the reward asks for "
                        "perturbed copies: give it the attribute needs_perturbed = True (a TRL-style "
                        "function: a parameter twin_text), and configure perturbations"
                    ) from error
                raise ValueError(f"reward {label!r}{_message_of(error)}") from error
            try:
                metrics_of(reward, batch, label)
            except RuntimeError as error:
                raise ValueError(f"the metrics of reward {label!r}{_message_of(error)}") from error


def rehearse_perturbations(modes: Mapping[str, Perturbation], num_frames: int, args: TrainingConfig) -> None:
    """Call every perturbation some times on the number of frames that the processor takes.

    Raises:
        ValueError: naming one that fails, takes too long or returns anything but frame indices.
    """
    for label, mode in modes.items():
        with time_limit(f"perturbation {label!r}", args.rehearsal_seconds):
            for number in range(NUM_DRAWS):
                try:
                    draw({label: mode}, num_frames, seed=args.seed, video_id="rehearsal", step=number)
                except RuntimeError as error:
                    raise ValueError(f"perturbation {label!r}{_message_of(error)}") from error


@contextmanager
def time_limit(plug_in: str, seconds: float) -> Iterator[None]:
    """Say what is being called if it takes long, and end it after its time.

    The note is written by a thread of its own, so it comes whatever the plug-in does. The end is an exception
    that an alarm raises inside the plug-in, in the main thread of a system with SIGALRM; code that never
    comes back to Python is not ended.

    Args:
        plug_in: kind and name.
        seconds: 0 for no limit.

    Raises:
        ValueError: if it takes longer.
    """
    caller = threading.get_ident()

    def note() -> None:
        location = _location_of(traceback.extract_stack(sys._current_frames()[caller]))
        sys.stderr.write(f"{plug_in} is still being rehearsed after {NOTE_AFTER:g} s, {location}\n")

    def ring(number: int, frame: object) -> None:
        raise Overdue

    timer = threading.Timer(NOTE_AFTER, note)
    timer.daemon = True
    timer.start()
    can_end = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, ring) if can_end else None
    if can_end:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_AFTER)
    try:
        yield
    except Overdue as error:
        location = _location_of(traceback.extract_tb(error.__traceback__)[:-1])  # without `ring`
        raise ValueError(
            f"{plug_in} took more than {seconds:g} s in the rehearsal, {location}; if it needs them, give "
            "--rehearsal_seconds (0 for no limit)"
        ) from error
    finally:
        if can_end:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        timer.cancel()


def _made_up(dataset: Dataset, args: TrainingConfig) -> RolloutBatch:
    """A batch of the size of the run's."""
    records = []
    kinds = list(zip(tasks_of(dataset), dataset["dataset"], strict=True))
    for row in dataset.select(_first_of_each(kinds, args.num_videos_per_generation)):
        right = _right(row)
        wrong = answers.render(REASONING[1], row["target"] / 2 if math.isfinite(row["target"]) else 1.0)
        row["twin_text"] = wrong
        for text in islice(cycle((right, "no score", wrong)), args.num_generations):
            records.append(Record.from_row(row, text, skipped=False))
    batch, _ = collect(records)
    assert batch is not None
    return batch


def _first_of_each(kinds: Sequence[Hashable], number: int) -> list[int]:
    """Some rows in their order, those that come first of their kind, so that each kind is among them."""
    rows: dict[Hashable, list[int]] = {}
    for row, kind in enumerate(kinds):
        rows.setdefault(kind, []).append(row)
    in_turn = chain.from_iterable(zip_longest(*rows.values()))
    chosen = islice((row for row in in_turn if row is not None), number)
    return sorted(chosen)


def _right(row: Mapping[str, Any]) -> str:
    """A response that says what is known to be right."""
    if math.isfinite(row["target"]):
        return answers.render(REASONING[0], row["target"])
    return answers.render(REASONING[0], str(row.get("answer") or "yes"))


def _misses_twins(reward: Reward, twins: RolloutBatch, label: str, error: RuntimeError) -> bool:
    """Whether a reward that failed without twins comes further with them."""
    try:
        evaluate(reward, twins, label)
    except ValueError:  # it returned something
        return True
    except RuntimeError as other:
        return repr(other.__cause__) != repr(error.__cause__)
    return True


def _message_of(error: RuntimeError) -> str:
    """What a plug-in says itself, or what it raised and where."""
    cause = error.__cause__
    assert cause is not None
    if "broadcast" in str(cause):  # numpy's words
        return f": {cause}, {_location_of(traceback.extract_tb(cause.__traceback__))}; {SHAPES}"
    if isinstance(cause, ValueError):
        return f": {cause}"
    return f" raised {cause!r} in the rehearsal, {_location_of(traceback.extract_tb(cause.__traceback__))}"


def _location_of(frames: Iterable[traceback.FrameSummary]) -> str:
    """The innermost of some frames that is not in a library."""
    known = list(frames)
    own = [frame for frame in known if not frame.filename.startswith((*LIBRARIES, "<"))]
    frame = (own or known)[-1]
    return f"at {frame.filename}, line {frame.lineno}"
