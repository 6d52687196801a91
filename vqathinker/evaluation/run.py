"""The way of an evaluation: what is left to score, score it, keep each result, sum up."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset

from vqathinker.evaluation.journal import PATTERN, Journal, read_all
from vqathinker.evaluation.result import RESULT_FILES, Evaluation, require_free, summarise
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.fingerprint import fingerprint
from vqathinker.rollout import Sampling
from vqathinker.rollout.predict import Prediction, predict

LIBRARIES = ("vqathinker", "torch", "transformers", "trl", "decord", "av")


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
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] = (0, 1),
    on_plan: Callable[[int, int], None] = lambda kept, left: None,
    on_video: Callable[[Prediction], None] = lambda prediction: None,
) -> Evaluation:
    """Score every video of a data set (greedily unless told otherwise) and compare with its labels.

    Batches are cut at the same rows whatever was scored before and by whom, so that an interrupted or
    sharded run answers each video in the same company as an undisturbed one.

    Args:
        model: the policy.
        processor: that of the same checkpoint.
        dataset: rows from `vqathinker.media.dataset.load_labels`.
        sampling: how tokens are drawn.
        batch_size: videos at a time.
        num_workers: threads that decode.
        think: False also reads the score of an answer block alone.
        origin: what only the caller knows, e.g. checkpoint, label file and scale; stored with the settings.
        out: folder that keeps each result as it comes. A run with the same settings goes on where the last
            one stopped and tries unreadable files again; the run that completes the rows writes the summary.
        overwrite: start anew, whatever `out` holds.
        shard: index and number of processes that share the rows and `out`.
        on_plan: called with the number of results in `out` and of videos that this process will answer.
        on_video: called after each video, e.g. to advance a progress bar.

    Raises:
        ValueError: if `out` holds results of a run with other settings.
        OSError: if `out` cannot be written; what was written stays.
    """
    sampling = sampling or Sampling()
    settings = {**(origin or {}), **_settings(model, processor, dataset, sampling, think)}
    folder = None if out is None else Path(out)
    with nullcontext() if folder is None else _open(folder, settings, overwrite, shard) as journal:
        results = {} if folder is None else read_all(folder)
        kept = {row for row, result in results.items() if result["error"] is None}
        rows = left_to_score(dataset.num_rows, batch_size, kept, shard)
        on_plan(len(kept), len(rows))
        paths = dataset.select(rows)["path"][:]
        options: dict[str, Any] = {"sampling": sampling, "batch_size": batch_size, "think": think}
        predictions = predict(model, processor, paths, num_workers=num_workers, **options)
        for row, said in zip(rows, predictions, strict=True):
            if row not in kept:
                results[row] = _entry(row, dataset[row]["video_id"], said, batch_size)
                if journal is not None:
                    journal.append(results[row])
            on_video(said)
    return _finish(dataset, results, settings, folder)


def _finish(
    dataset: Dataset, results: dict[int, dict[str, Any]], settings: dict[str, Any], folder: Path | None
) -> Evaluation:
    """Sum up, with what other shards have found meanwhile; write it once every row has its result."""
    result = summarise(dataset, results if folder is None else read_all(folder), settings)
    if folder is not None and not result.num_pending:
        result.write(folder, overwrite=True)
    return result


def _open(folder: Path, settings: Mapping[str, Any], overwrite: bool, shard: tuple[int, int]) -> Journal:
    check_folder(folder, overwrite=overwrite, shard=shard)
    if overwrite:
        for path in [*folder.glob(PATTERN), *(folder / name for name in RESULT_FILES)]:
            path.unlink(missing_ok=True)
    return Journal(folder, settings, shard)


def _entry(row: int, video_id: str, said: Prediction, batch_size: int) -> dict[str, Any]:
    """What a journal keeps of one video; `batch_size` may differ between the runs that it took."""
    answer = {"score": said.score, "error": said.error, "text": said.text}
    return {"row": row, "video_id": video_id, **answer, "batch_size": batch_size}


def check_folder(
    directory: str | os.PathLike[str], *, overwrite: bool = False, shard: tuple[int, int] = (0, 1)
) -> None:
    """Check that results may be kept here, before a model is loaded.

    Raises:
        ValueError: if it is no folder, if it holds results without a journal, or if several shards would each
            remove what the others have written.
    """
    has_journal = any(Path(directory).glob(PATTERN))
    if overwrite and shard[1] > 1 and has_journal:
        raise ValueError(f"shards cannot overwrite {directory}; remove it before they start")
    require_free(directory, overwrite=overwrite or has_journal)


def left_to_score(
    num_rows: int, batch_size: int, kept: set[int], shard: tuple[int, int] = (0, 1)
) -> list[int]:
    """Return the rows of this shard's batches in which a result is missing.

    >>> left_to_score(7, 2, {0, 1, 2})
    [2, 3, 4, 5, 6]
    >>> left_to_score(7, 2, {0, 1, 2}, shard=(1, 2))
    [2, 3, 6]
    """
    index, num_shards = shard
    batches = [range(start, min(start + batch_size, num_rows)) for start in range(0, num_rows, batch_size)]
    return [row for batch in batches[index::num_shards] if not kept.issuperset(batch) for row in batch]


def _settings(
    model: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    dataset: Dataset,
    sampling: Sampling,
    think: bool,
) -> dict[str, Any]:
    """What shapes the numbers, but for what only the caller knows."""
    return {
        "fingerprint": fingerprint(model, processor),
        **asdict(processor.scoring),
        "image_mean": processor.image_mean,
        "image_std": processor.image_std,
        "prompt": processor.prompt,
        "motion": processor.motion,
        "dtype": str(model.lm_head.weight.dtype).removeprefix("torch."),
        "sampling": asdict(sampling),
        "think": think,
        **_label_settings(dataset),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def _label_settings(dataset: Dataset) -> dict[str, Any]:
    """The number of labels, a digest of them, and the distinct MOS ranges of each data set."""
    columns = [dataset[name][:] for name in ("dataset", "video_id", "mos", "target")]
    digest = hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]
    ranges: dict[str, list[list[float]]] = {}
    bounds = (dataset[name] for name in ("dataset", "mos_low", "mos_high"))
    for name, low, high in sorted(set(zip(*bounds, strict=True))):
        ranges.setdefault(name, []).append([low, high])
    return {"num_labels": dataset.num_rows, "labels_digest": digest, "native_ranges": ranges}
