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

from vqathinker.evaluation.folder import left_to_score, open_journal
from vqathinker.evaluation.result import Evaluation, summarise
from vqathinker.journal import read_all, require_same_settings
from vqathinker.scoring import Mode, Score, Scorer

LIBRARIES = ("vqathinker", "torch", "transformers", "trl", "decord", "av")


def evaluate(
    scorer: Scorer,
    dataset: Dataset,
    *,
    origin: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] = (0, 1),
    on_plan: Callable[[int, int], None] = lambda kept, left: None,
    on_video: Callable[[Score], None] = lambda score: None,
    **mode: Any,
) -> Evaluation:
    """Score every video of a data set and compare with its labels.

    Batches are cut at the same rows whatever was scored before and by whom, so that an interrupted or
    sharded run answers each video in the same company as an undisturbed one.

    Args:
        scorer: the checkpoint with its engine, batch size and reading processes.
        dataset: rows from `vqathinker.data.dataset.load_labels`.
        origin: what only the caller knows, e.g. checkpoint, label file and scale; stored with the settings.
        out: folder that keeps each result as it comes. A run with the same settings goes on where the last
            one stopped and tries unreadable files again; the run that completes the rows writes the summary.
        overwrite: start anew, whatever `out` holds.
        shard: index and number of processes that share the rows and `out`.
        on_plan: called with the number of results in `out` and of videos that this process will answer.
        on_video: called after each video, e.g. to advance a progress bar.
        mode: as `vqathinker.scoring.Mode` takes it, such as `samples=8`; greedy if omitted.

    Raises:
        ValueError: if `out` holds results of a run with other settings.
        OSError: if `out` cannot be written; what was written stays.
    """
    settings = {**(origin or {}), **scorer_settings(scorer, Mode(**mode)), **_label_settings(dataset)}
    folder = None if out is None else Path(out)
    opened = (
        nullcontext() if folder is None else open_journal(folder, settings, overwrite=overwrite, shard=shard)
    )
    with opened as journal:
        results = {} if folder is None else read_all(folder)
        kept = {row for row, result in results.items() if result["error"] is None}
        rows = left_to_score(dataset.num_rows, scorer.batch_size, kept, shard)
        on_plan(len(kept), len(rows))
        scores = scorer.stream(dataset.select(rows)["path"][:], expand=False, **mode)
        for row, score in zip(rows, scores, strict=True):
            if row not in kept:
                results[row] = _entry(row, dataset[row]["video_id"], score, scorer.batch_size)
                if journal is not None:
                    journal.append(results[row])
            on_video(score)
    return _finish(dataset, results, settings, folder)


def _finish(
    dataset: Dataset, results: dict[int, dict[str, Any]], settings: dict[str, Any], folder: Path | None
) -> Evaluation:
    """Sum up, with what other shards have found meanwhile; write it once every row has its result."""
    if folder is not None:
        require_same_settings(folder, settings)  # two runs may have started at the same time
    result = summarise(dataset, results if folder is None else read_all(folder), settings)
    if folder is not None and not result.num_pending:
        result.write(folder, overwrite=True)
    return result


def _entry(row: int, video_id: str, score: Score, batch_size: int) -> dict[str, Any]:
    """What a journal keeps of one video; `batch_size` may differ between the runs that it took."""
    answer: dict[str, Any] = {"score": score.score, "clipped": score.clipped, "error": score.error}
    answer["text"] = "\n\n".join(score.texts)
    if len(score.samples) > 1:
        answer |= {"samples": score.samples}
    return {"row": row, "video_id": video_id, **answer, "batch_size": batch_size}


def scorer_settings(scorer: Scorer, mode: Mode) -> dict[str, Any]:
    """What shapes the numbers, but for the labels and what only the caller knows."""
    processor = scorer.processor
    versions = {name: version(name) for name in LIBRARIES} | scorer.engine.versions()
    return {
        "fingerprint": scorer.fingerprint,
        **asdict(scorer.setting),
        "image_mean": processor.image_mean,
        "image_std": processor.image_std,
        "prompt": processor.prompt,
        "motion": processor.motion,
        "engine": type(scorer.engine).__name__,
        "dtype": scorer.dtype,
        "mode": asdict(mode),
        "sampling": asdict(mode.sampling(scorer.max_new_tokens)),
        "think": scorer.think,
        "versions": versions,
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
