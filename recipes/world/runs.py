"""Train with the shipped recipes and score labelled sets, by the commands that everybody has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .build import write_text

RECIPES = Path(__file__).parents[1]
METRICS = ("srcc", "plcc", "rmse")
COURSE = ("reward", "entropy", "kl", "scores/spread", "scores/srcc")  # of a training by GRPO
MAX_NEW_TOKENS = 48
BATCH_SIZE = 50
ON_LAPTOP = ("--config_file", "cpu", "--num_processes", "1")
# side by side, two trainings with a thread per core each would wait for one another
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# of an evaluation; --answer-only reads responses with reasoning too
READING = (
    "--max-new-tokens", str(MAX_NEW_TOKENS), "--batch-size", str(BATCH_SIZE), "--answer-only",
)  # fmt: skip
VQATHINKER = (sys.executable, "-m", "vqathinker.cli")
DONE = "done"  # file beside a training's result, written after it
UNREADABLE = 1  # status of an evaluation that is complete but for files that cannot be read


def call(
    *words: object, shown: bool, environment: Mapping[str, str] = ONE_THREAD, accepted: Sequence[int] = (0,)
) -> None:
    """Run a command of vqathinker.

    Args:
        words: of the command line.
        shown: whether its progress is printed; errors are in any case.
        environment: variables beside those of this process.
        accepted: statuses that are no failure.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    # progress and errors come on one stream: kept back until it is known which they are
    messages = None if shown else subprocess.PIPE
    command = [*VQATHINKER, *map(str, words)]
    # its tables go where progress goes: what a caller prints stays its own
    tables = 2 if shown else subprocess.DEVNULL
    done = subprocess.run(command, env=os.environ | environment, stdout=tables, stderr=messages, text=True)
    if done.returncode not in accepted:
        sys.stderr.write(done.stderr or "")
        done.check_returncode()


def train(
    recipe: str,
    settings: Sequence[Path],
    checkpoint: Path,
    labels: Path,
    videos: Path,
    out: Path,
    *options: object,
    seed: int = 0,
    shown: bool = True,
) -> None:
    """Run a recipe on one CPU core unless it has finished.

    Args:
        recipe: "grpo" or "sft".
        settings: its YAMLs, of which the later win.
        checkpoint: where it starts.
        labels: label file.
        videos: folder that its names start from.
        out: output folder; the result goes to `final` in it.
        options: more of the recipe's.
        seed: of the training.
        shown: whether its progress is printed.
    """
    if (out / DONE).exists():
        return
    words: list[object] = ["train", recipe, *ON_LAPTOP, "--config", *settings]
    words += ["--model_name_or_path", checkpoint, "--train_labels", labels, "--train_videos", videos]
    words += ["--output_dir", out, "--overwrite_output_dir", "true", "--seed", seed]
    call(*words, *options, shown=shown)
    (out / DONE).touch()


def evaluate(checkpoint: Path, sets: Path, out: Path, *options: object) -> dict[str, Any]:
    """Score sets, greedily unless options say otherwise; an interrupted evaluation goes on.

    Args:
        checkpoint: what answers.
        sets: their YAML file.
        out: output folder, with one in it for each set.
        options: more of the command's.

    Returns:
        As `measure`.
    """
    words = ["evaluate", checkpoint, "--sets", sets, "--out", out, *READING, *options]
    call(*words, shown=False, accepted=(0, UNREADABLE))
    return measure(out)


def measure(folder: Path) -> dict[str, Any]:
    """For each evaluated set SRCC, PLCC, RMSE, the numbers of distinct scores and of videos without one."""
    from vqathinker.evaluation.runs import read_run
    from vqathinker.metrics import correlations

    found = {}
    for name, scores in read_run(folder).items():
        result = correlations(scores.predicted, scores.target, num_bootstrap=0)
        found[name] = {metric: round(getattr(result, metric).value, 4) for metric in METRICS} | {
            "videos": len(scores.videos),
            "distinct": len(np.unique(scores.predicted[np.isfinite(scores.predicted)])),
            "unparsed": result.num_failed,
        }
    return found


def course(trained: Path) -> dict[str, list[float | None]]:
    """Means of what GRPO logs over the first and the last tenth of its steps; empty for another training.

    A mean of nothing is None: of a correlation in steps that have none, for one.
    """
    steps, _ = read_log(trained)
    tenth = max(1, len(steps) // 10)
    return {
        name: [_mean([step[name] for step in part]) for part in (steps[:tenth], steps[-tenth:])]
        for name in COURSE
        if steps and name in steps[0]  # no KL without a reference
    }


def _mean(logged: Sequence[float | None]) -> float | None:
    """Of what is a number; transformers writes NaN as null."""
    numbers = [value for value in logged if value is not None]
    return round(float(np.mean(numbers)), 4) if numbers else None


def read_log(trained: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The steps of a training by GRPO, and any training's validations."""
    history = json.loads((trained / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [e for e in history if "reward" in e], [e for e in history if "eval_srcc" in e]


def add_reasoning(checkpoint: Path, labels: Path, videos: Path, out: Path) -> None:
    """Write a label file again unless it is there, with what a model says of each clip as its reasoning."""
    from vqathinker import Scorer

    if out.exists():
        return
    table = pd.read_csv(labels)
    with Scorer.from_pretrained(checkpoint, max_new_tokens=MAX_NEW_TOKENS, batch_size=BATCH_SIZE) as scorer:
        found = scorer.stream([videos / name for name in table["video"]], expand=False)
        table["reasoning"] = [score.reasoning for score in found]
    write_text(out, table.to_csv(index=False))
