"""Scores for a labelled data set, with the field's metrics and everything that shaped them stored beside.

Source of the metrics: VQAThinker (arXiv 2508.06051), section 4.1.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from vqathinker.metrics import Metrics, correlations
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout import Sampling
from vqathinker.rollout.predict import Prediction, predict

LABELS = ("video_id", "dataset", "path", "mos", "target")
COLUMNS = (*LABELS, "score", "error", "text")
SCALE = (1.0, 5.0)
PREDICTIONS_FILE, SUMMARY_FILE = "predictions.csv", "summary.json"
LIBRARIES = ("vqathinker", "torch", "transformers", "trl", "decord", "av")


@dataclass(frozen=True)
class Evaluation:
    """Predictions for a data set and what they are worth.

    Attributes:
        metrics: over the readable videos; responses that do not parse count as failed.
        num_unreadable: files that could not be read.
        num_clipped: scores outside the 1-5 scale, set to its nearer end.
        settings: frames, size, prompt, sampling and library versions behind the scores.
        rows: one mapping with `COLUMNS` per video.
    """

    metrics: Metrics
    num_unreadable: int
    num_clipped: int
    settings: dict[str, Any]
    rows: list[dict[str, Any]]

    def write(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write `predictions.csv` and `summary.json`.

        Raises:
            ValueError: if one of them exists and may not be overwritten.
        """
        directory = Path(directory)
        for name in (PREDICTIONS_FILE, SUMMARY_FILE):
            if (directory / name).exists() and not overwrite:
                raise ValueError(f"{directory / name} exists; choose another directory or allow overwriting")
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / PREDICTIONS_FILE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        summary = {
            "unreadable": self.num_unreadable,
            "clipped": self.num_clipped,
            "metrics": self.metrics.to_dict(),
            "settings": self.settings,
        }
        (directory / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def evaluate(
    model: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    dataset: Dataset,
    *,
    sampling: Sampling | None = None,
    batch_size: int = 16,
    num_workers: int = 4,
    on_video: Callable[[Prediction], None] | None = None,
) -> Evaluation:
    """Score every video of a data set (greedily unless told otherwise) and compare with its labels.

    Args:
        model: the policy.
        processor: that of the same checkpoint.
        dataset: rows from `vqathinker.media.dataset.load_labels`.
        sampling: how tokens are drawn.
        batch_size: videos at a time.
        num_workers: threads that decode.
        on_video: called after each video, e.g. to advance a progress bar.
    """
    sampling = sampling or Sampling()
    predictions = predict(
        model, processor, dataset["path"], sampling=sampling, batch_size=batch_size, num_workers=num_workers
    )
    rows, num_clipped = [], 0
    for row, prediction in zip(dataset, predictions, strict=True):
        score = float(np.clip(prediction.score, *SCALE))
        num_clipped += score != prediction.score and not math.isnan(score)
        said = {"score": score, "error": prediction.error, "text": prediction.text}
        rows.append({name: row[name] for name in LABELS} | said)
        if on_video is not None:
            on_video(prediction)
    readable = [(row["score"], row["target"]) for row in rows if row["error"] is None]
    scores, targets = np.array(readable, dtype=np.float64).reshape(-1, 2).T
    settings = {
        **asdict(processor.scoring),
        "prompt": processor.prompt,
        "motion": processor.motion,
        "sampling": asdict(sampling),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    return Evaluation(correlations(scores, targets), len(rows) - len(readable), num_clipped, settings, rows)
