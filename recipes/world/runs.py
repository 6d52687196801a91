"""Train with the shipped recipes and score labelled sets, by the commands that everybody has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RECIPES = Path(__file__).parents[1]
METRICS = ("srcc", "plcc", "rmse")
ON_LAPTOP = ("--config_file", "cpu", "--num_processes", "1")
# of an evaluation; --answer-only reads responses with reasoning too
READING = ("--max-new-tokens", "48", "--batch-size", "50", "--answer-only")
VQATHINKER = (sys.executable, "-m", "vqathinker.cli")


def call(*words: object, shown: bool = True) -> None:
    """Run a command of vqathinker on one thread.

    Args:
        words: of the command line.
        shown: whether its progress is printed; errors are in any case.
    """
    # progress and errors come on one stream: kept back until it is known which they are
    messages = None if shown else subprocess.PIPE
    # side by side, two trainings with a thread per core each would wait for one another
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*VQATHINKER, *map(str, words)]
    done = subprocess.run(command, env=environment, stdout=sys.stderr, stderr=messages, text=True)
    if done.returncode != 0:
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
    if (out / "final").exists():
        return
    words: list[object] = ["train", recipe, *ON_LAPTOP, "--config", *settings]
    words += ["--model_name_or_path", checkpoint, "--train_labels", labels, "--train_videos", videos]
    words += ["--output_dir", out, "--overwrite_output_dir", "true", "--seed", seed]
    call(*words, *options, shown=shown)


def evaluate(checkpoint: Path, sets: Path, out: Path) -> dict[str, Any]:
    """Score sets greedily; an interrupted evaluation goes on.

    Args:
        checkpoint: what answers.
        sets: their YAML file.
        out: output folder, with one in it for each set.

    Returns:
        As `measure`.
    """
    call("evaluate", checkpoint, "--sets", sets, "--out", out, *READING, shown=False)
    return measure(out)


def measure(folder: Path) -> dict[str, Any]:
    """For each evaluated set SRCC, PLCC, RMSE, the number of distinct scores and of answers without one."""
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


def describe(checkpoint: Path, labels: Path, videos: Path, out: Path) -> None:
    """Write a label file again, with what a model thinks of each clip as its reasoning."""
    from vqathinker import Scorer

    if out.exists():
        return
    table = pd.read_csv(labels)
    with Scorer.from_pretrained(checkpoint, max_new_tokens=48, batch_size=50) as scorer:
        found = scorer.stream([videos / name for name in table["video"]], expand=False)
        table["reasoning"] = [score.reasoning for score in found]
    table.to_csv(out, index=False)
