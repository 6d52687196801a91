"""Train with the shipped recipes on one CPU core, and score the world's sets."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .build import SETS

RECIPES = Path(__file__).parents[1]
SCORED = tuple(name for name in SETS if name not in ("train", "val"))
METRICS = ("srcc", "plcc", "rmse")
MAX_NEW_TOKENS = 48
BATCH_SIZE = 50


def train(
    recipe: str,
    settings: Path,
    checkpoint: Path,
    labels: Path,
    out: Path,
    *options: object,
    seed: int = 0,
    shown: bool = True,
) -> None:
    """Run a recipe unless it has finished.

    Args:
        recipe: "grpo" or "sft".
        settings: its YAML.
        checkpoint: where it starts.
        labels: label file, in the folder that its names start from.
        out: output folder; the result goes to `final` in it.
        options: more of the recipe's.
        seed: of the training.
        shown: whether its progress is printed; errors are in any case.
    """
    if (out / "final").exists():
        return
    command: list[object] = [sys.executable, "-m", "accelerate.commands.launch", "-q"]
    command += ["--config_file", RECIPES / "accelerate/cpu.yaml", "--num_cpu_threads_per_process", 1]
    command += [RECIPES / f"{recipe}_lsvq.py"]
    command += ["--config", settings, "--model_name_or_path", checkpoint, "--output_dir", out]
    command += ["--train_labels", labels, "--train_videos", labels.parent, "--seed", seed]
    command += ["--overwrite_output_dir", "true", *options]
    # progress and errors come on one stream: kept back until it is known which they are
    messages = None if shown else subprocess.PIPE
    done = subprocess.run([str(part) for part in command], stderr=messages, text=True)
    if done.returncode != 0:
        sys.stderr.write(done.stderr or "")
        done.check_returncode()


def evaluate(checkpoint: Path, world: Path, out: Path, names: Sequence[str] = SCORED) -> dict[str, Any]:
    """Score sets of the world greedily; an interrupted run goes on.

    Returns:
        For each set SRCC, PLCC, RMSE, the number of distinct scores and of answers that do not parse.
    """
    from vqathinker import Scorer
    from vqathinker.evaluation import evaluate as evaluate_rows
    from vqathinker.media.dataset import load_labels

    found = {}
    with Scorer.from_pretrained(checkpoint, max_new_tokens=MAX_NEW_TOKENS, batch_size=BATCH_SIZE) as scorer:
        for name in names:
            rows = load_labels(world / f"{name}.csv", video_dir=world, mos_range=(1, 5), scale="affine")
            result = evaluate_rows(scorer, rows, out=out / name)
            scores = {row["score"] for row in result.rows if math.isfinite(row["score"])}
            found[name] = {metric: round(getattr(result.metrics, metric).value, 4) for metric in METRICS} | {
                "distinct": len(scores),
                "unparsed": result.metrics.num_failed,
            }
    (out / "results.json").write_text(json.dumps(found, indent=2) + "\n")
    return found
