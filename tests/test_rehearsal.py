"""What is wrong with a plug-in is said before the first step, with its name."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

import rewards
from perturbations import PERTURBATIONS
from rewards import from_trl
from vqathinker.training import TrainingConfig
from vqathinker.training.grpo import rehearsal
from vqathinker.training.grpo.rehearsal import rehearse_perturbations, rehearse_rewards, time_limit
from vqathinker.types import FloatArray, RolloutBatch

Rng = np.random.Generator
ROWS = Dataset.from_dict(
    {
        "prompt": [f"d/{i}" for i in range(4)],
        "video_id": [str(i) for i in range(4)],
        "dataset": ["d"] * 4,
        "path": [f"{i}.mp4" for i in range(4)],
        "target": [1.5, 2.5, 3.5, 4.5],
    }
)


def settings(**options: Any) -> TrainingConfig:
    common = {"use_cpu": True, "bf16": False, "per_device_train_batch_size": 8, "num_generations": 4}
    return TrainingConfig(**common, **options)


def rehearse(function: Callable[..., Any], *, with_twins: bool = False, **options: Any) -> None:
    rehearse_rewards({"mine": function}, ROWS, settings(**options), with_twins=with_twins)


def test_a_reward_for_a_data_set_that_comes_late_is_called_too() -> None:
    def divided(batch: RolloutBatch) -> FloatArray:
        return batch.scores * (1 // 0)

    divided.datasets = ("late",)  # type: ignore[attr-defined]
    late = ROWS.remove_columns("dataset").add_column("dataset", ["late"] * 4)
    rows = concatenate_datasets([ROWS, late])
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        rehearse_rewards({"mine": divided}, rows, settings(), with_twins=False)
    divided.datasets = ("nowhere",)  # type: ignore[attr-defined]
    rehearse_rewards({"mine": divided}, rows, settings(), with_twins=False)


def forgets_to_ask(batch: RolloutBatch) -> FloatArray:
    return batch.scores - batch.perturbed.scores  # type: ignore[union-attr]  # NaN with them: a second fault


def reads_twins(batch: RolloutBatch) -> FloatArray:
    assert batch.perturbed is not None
    return np.zeros_like(batch.scores)


def reads_twin_texts(completions: list[str], **columns: Any) -> list[float]:
    return [float(text != twin) for text, twin in zip(completions, columns["twin_text"], strict=True)]


def divides(batch: RolloutBatch) -> FloatArray:
    return batch.scores * (1 // 0)


def refuses(batch: RolloutBatch) -> FloatArray:
    raise ValueError("the column 'judge' is missing")


@pytest.mark.parametrize("function", [reads_twins, forgets_to_ask, from_trl(reads_twin_texts)])
def test_a_reward_that_reads_twins_without_asking(function: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"'mine' reads batch.perturbed, .* needs_perturbed = True"):
        rehearse(function)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            divides,
            rf"^reward 'mine' raised ZeroDivisionError.* in the rehearsal, at {__file__}, line \d+$",
        ),
        (refuses, "^reward 'mine': the column 'judge' is missing$"),
        (
            lambda batch: batch.scores[0],
            r"^reward 'mine' returned shape \(4,\) instead of \(4, 4\), a row for each video",
        ),
        (
            lambda batch: batch.scores[:, :3] - batch.target,
            rf"could not be broadcast .*, at {__file__}, line \d+; target has the shape \(N,\)",
        ),
        (lambda batch: batch.scores, "its score is NaN, as it is wherever a response has none"),
        (lambda batch: [None], "^reward 'mine' returned shape"),
    ],
)
def test_a_reward_that_fails(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rehearse(function)


def test_shipped_plug_ins_pass() -> None:
    rehearse_rewards(
        {name: rewards.load(name) for name in rewards.REWARDS}, ROWS, settings(), with_twins=True
    )
    for num_frames in (2, 3, 6):
        modes = {name: mode() for name, mode in PERTURBATIONS.items()}
        rehearse_perturbations(modes, num_frames, settings())


def beyond_twelve_frames(num_frames: int, rng: Rng) -> Any:  # noqa: ANN401  what foreign code may return
    return list(range(12))


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (lambda num_frames, rng: [[1, 0]], "'mine' returned array.* instead of frame indices"),
        (lambda num_frames, rng: [0.5, 1.0], "'mine' returned array.* instead of frame indices"),
        (lambda num_frames, rng: [True, False], "'mine' returned array.* instead of frame indices"),
        (lambda num_frames, rng: [], "'mine' returned array.* instead of frame indices"),
        (lambda num_frames, rng: [[1], [1, 2]], "^perturbation 'mine': setting an array element"),
        (lambda num_frames, rng: [-1, 0], r"'mine' returned \[-1, 0\] for 6 frames"),
        (beyond_twelve_frames, "'mine' returned .* for 6 frames"),
        (lambda num_frames, rng: range(num_frames), "'mine' left all 6 frames in place"),
        (
            lambda num_frames, rng: rng.shufle(num_frames),
            rf"^perturbation 'mine' raised AttributeError.* at {__file__}, line",
        ),
        (lambda num_frames: range(num_frames), "^perturbation 'mine' raised TypeError"),
    ],
)
def test_a_perturbation_that_is_wrong(mode: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rehearse_perturbations({"reverse": PERTURBATIONS["reverse"](), "mine": mode}, 6, settings())


def hangs(batch: RolloutBatch) -> FloatArray:
    for _ in itertools.count():
        try:
            time.sleep(10)  # a judge that does not answer
        except Exception:  # and tries again
            continue
    raise AssertionError


def hanging_mode(num_frames: int, rng: Rng) -> Any:  # noqa: ANN401
    time.sleep(10)


def test_a_plug_in_that_hangs_is_named_and_ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "NOTE_AFTER", 0.1)
    before = signal.getsignal(signal.SIGALRM)
    start = time.perf_counter()
    with pytest.raises(ValueError, match=rf"reward 'mine' took more than 0.4 s .*, at {__file__}, line \d+;"):
        rehearse(hangs, rehearsal_seconds=0.4)
    assert 0.4 <= time.perf_counter() - start < 5
    assert (
        f"reward 'mine' is still being rehearsed after 0.1 s, at {__file__}, line" in capsys.readouterr().err
    )
    with pytest.raises(ValueError, match=r"perturbation 'slow' took more than 0\.3 s .* --rehearsal_seconds"):
        rehearse_perturbations({"slow": hanging_mode}, 6, settings(rehearsal_seconds=0.3))
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    time.sleep(0.2)  # nothing rings afterwards


def test_without_a_limit() -> None:
    with time_limit("reward 'mine'", 0):
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


PROGRAM = """
import threading, time
from vqathinker.training.grpo import rehearsal

def wait():
    with rehearsal.time_limit("reward 'mine'", 0.1):
        time.sleep(0.6)

rehearsal.NOTE_AFTER = 0.2
thread = threading.Thread(target=wait)
thread.start()
thread.join()
"""


@pytest.mark.slow
def test_in_another_thread_it_is_only_said() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert "reward 'mine' is still being rehearsed after 0.2 s" in done.stderr


def test_a_report_that_fails_is_told_before_the_run() -> None:
    class Reports:
        def __call__(self, batch: RolloutBatch) -> FloatArray:
            return np.zeros_like(batch.scores)

        def metrics(self, batch: RolloutBatch) -> dict[str, float]:
            return {"share": 1 / 0}

    message = r"the metrics of reward 'mine' raised ZeroDivisionError.* in the rehearsal, at .*test_re"
    with pytest.raises(ValueError, match=message):
        rehearse(Reports())


def test_what_asks_others_is_rehearsed_by_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Judge:
        runs_once = True

        def __call__(self, batch: RolloutBatch) -> FloatArray:
            asked.append(batch)
            return np.zeros_like(batch.scores)

    args = settings()
    monkeypatch.setattr(TrainingConfig, "process_index", 1)
    rehearse_rewards({"judge": Judge()}, ROWS, args, with_twins=False)
    assert not asked
    monkeypatch.setattr(TrainingConfig, "process_index", 0)
    rehearse_rewards({"judge": Judge()}, ROWS, args, with_twins=False)
    assert asked
