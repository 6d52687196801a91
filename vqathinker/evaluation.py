"""Scores for a labelled data set, with the field's metrics and everything that shaped them stored beside.

Source of the metrics: VQAThinker (arXiv 2508.06051), section 4.1.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from vqathinker.media.dataset import TARGET_RANGE
from vqathinker.metrics import Metrics, correlations
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout import Sampling
from vqathinker.rollout.predict import Prediction, predict

LABELS = ("video_id", "dataset", "path", "mos", "target")
COLUMNS = (*LABELS, "score", "error", "text")
PREDICTIONS_FILE, SUMMARY_FILE = "predictions.csv", "summary.json"
LIBRARIES = ("vqathinker", "torch", "transformers", "trl", "decord", "av")


@dataclass(frozen=True)
class Evaluation:
    """Predictions for a data set and what they are worth.

    Attributes:
        metrics: over the readable videos; responses that do not parse count as failed.
        num_unreadable: files that could not be read.
        num_clipped: scores outside the 1-5 scale, set to its nearer end.
        settings: what shaped the numbers: frames, prompt, precision, sampling, versions, labels.
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
        require_free(directory, overwrite=overwrite)
        directory = Path(directory)
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
        text = json.dumps(_without_nan(summary), indent=2, ensure_ascii=False, allow_nan=False)
        (directory / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")


def require_free(directory: str | Path, *, overwrite: bool = False) -> None:
    """Check that `Evaluation.write` may write here, before hours of scoring.

    Raises:
        ValueError: if the directory is a file, or holds a result that may not be overwritten.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is not a directory")
    for name in (PREDICTIONS_FILE, SUMMARY_FILE):
        if (directory / name).exists() and not overwrite:
            raise ValueError(f"{directory / name} exists; choose another directory or allow overwriting")


def clip(score: float) -> float:
    """Return a score as shown to a user, within 1-5; NaN stays NaN.

    >>> clip(7.0), clip(float("nan"))
    (5.0, nan)
    """
    return float(np.clip(score, *TARGET_RANGE))


def evaluate(
    model: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    dataset: Dataset,
    *,
    sampling: Sampling | None = None,
    batch_size: int = 16,
    num_workers: int = 4,
    think: bool = True,
    origin: Mapping[str, Any] | None = None,
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
        think: False also reads the score of an answer block alone.
        origin: what only the caller knows, e.g. checkpoint, label file and scale; stored with the settings.
        on_video: called after each video, e.g. to advance a progress bar.
    """
    sampling = sampling or Sampling()
    predictions = predict(
        model,
        processor,
        dataset["path"],
        sampling=sampling,
        batch_size=batch_size,
        num_workers=num_workers,
        think=think,
    )
    rows, num_clipped = [], 0
    for row, prediction in zip(dataset, predictions, strict=True):
        score = clip(prediction.score)
        num_clipped += score != prediction.score and not math.isnan(score)
        said = {"score": score, "error": prediction.error, "text": prediction.text}
        rows.append({name: row[name] for name in LABELS} | said)
        if on_video is not None:
            on_video(prediction)
    readable = [(row["score"], row["target"]) for row in rows if row["error"] is None]
    scores, targets = np.array(readable, dtype=np.float64).reshape(-1, 2).T
    settings = {
        **(origin or {}),
        **_model_settings(model, processor),
        "sampling": asdict(sampling),
        "batch_size": batch_size,
        "think": think,
        "native_ranges": _native_ranges(dataset),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    return Evaluation(correlations(scores, targets), len(rows) - len(readable), num_clipped, settings, rows)


def _model_settings(
    model: VQAThinkerForConditionalGeneration, processor: VQAThinkerProcessor
) -> dict[str, Any]:
    return {
        **asdict(processor.scoring),
        "image_mean": processor.image_mean,
        "image_std": processor.image_std,
        "prompt": processor.prompt,
        "motion": processor.motion,
        "dtype": str(model.lm_head.weight.dtype).removeprefix("torch."),
    }


def _native_ranges(dataset: Dataset) -> dict[str, list[list[float]]]:
    """The distinct lowest and highest possible MOS of each data set."""
    ranges: dict[str, list[list[float]]] = {}
    columns = (dataset[name] for name in ("dataset", "mos_low", "mos_high"))
    for name, low, high in sorted(set(zip(*columns, strict=True))):
        ranges.setdefault(name, []).append([low, high])
    return ranges


def _without_nan(value: Any) -> Any:  # noqa: ANN401  whatever JSON holds
    """Replace every NaN by None, which JSON can say."""
    if isinstance(value, Mapping):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
