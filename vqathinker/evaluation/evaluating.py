"""The way of an evaluation: what is left to score, score it, keep each result, sum up."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from datasets import Dataset

from vqathinker.data.sample_rows import tasks_of
from vqathinker.evaluation.folder import Keeping
from vqathinker.evaluation.summary import Evaluation, summarise
from vqathinker.journal import left_to_score, read_all, require_same_settings
from vqathinker.samples import SCORE
from vqathinker.scoring import Mode, Score, Scorer

logger = logging.getLogger(__name__)

LIBRARIES = ("vqathinker", "torch", "transformers", "trl", "decord", "av")


class Evaluating:
    """The scoring of a data set: iterate over it for each score as it comes, then ask for the `result`.

    Batches are cut at the same rows whatever was scored before and by whom, so that an interrupted or
    sharded run answers each video in the same company as an undisturbed one.

    Args:
        scorer: the checkpoint with its engine, batch size and reading processes.
        dataset: rows from `vqathinker.data.dataset.load_labels`.
        keeping: where results are kept. A run with the same settings goes on where the last one stopped and
            tries unreadable files again; the run that completes the rows writes the summary.
        mode: how a score is read.

    Attributes:
        kept: rows whose result stays.
        left: rows that this process answers.

    Raises:
        ValueError: if the folder holds results of a run with other settings.
        OSError: if the folder cannot be written; what was written stays.
    """

    def __init__(self, scorer: Scorer, dataset: Dataset, keeping: Keeping, mode: Mode) -> None:
        self.scorer = scorer
        dataset = _scored(dataset)
        self.dataset = dataset
        self.keeping = keeping
        self.mode = mode
        self.settings = {**keeping.origin, **scorer_settings(scorer, mode), **_label_settings(dataset)}
        self._journal = keeping.open(self.settings)
        self._results = {} if keeping.folder is None else read_all(keeping.folder)
        self.kept = {row for row, result in self._results.items() if result["error"] is None}
        self.left = left_to_score(dataset.num_rows, scorer.batch_size, self.kept, keeping.shard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._journal is not None:
            self._journal.close()

    def __iter__(self) -> Iterator[Score]:
        """Score what is left, keeping each result before it is handed out."""
        rows = self.dataset.select(self.left)
        questions = rows["question"][:] if "question" in rows.column_names else None
        scores = self.scorer.stream(rows["path"][:], expand=False, questions=questions, **asdict(self.mode))
        for row, video_id, score in zip(self.left, rows["video_id"], scores, strict=True):
            if row not in self.kept:
                entry = _entry(row, video_id, score, self.scorer.batch_size)
                self._results[row] = entry
                if self._journal is not None:
                    self._journal.append(entry)
            yield score

    def result(self) -> Evaluation:
        """Sum up, with what other shards have found meanwhile; written once every row has its result."""
        folder = self.keeping.folder
        if folder is None:
            return summarise(self.dataset, self._results, self.settings)
        require_same_settings(folder, self.settings)  # two runs may have started at the same time
        result = summarise(self.dataset, read_all(folder), self.settings)
        if not result.num_pending:
            result.write(folder, overwrite=True)
        return result


def evaluate(
    scorer: Scorer,
    dataset: Dataset,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] = (0, 1),
    origin: Mapping[str, Any] | None = None,
    **mode: Any,
) -> Evaluation:
    """Score every video of a data set and compare with its labels.

    Args:
        scorer: the checkpoint with its engine, batch size and reading processes.
        dataset: rows from `vqathinker.data.dataset.load_labels`.
        out: folder that keeps each result as it comes; the same call goes on where the last one stopped.
        overwrite: start anew, whatever `out` holds.
        shard: index and number of processes that share the rows and `out`.
        origin: what only the caller knows, e.g. checkpoint, label file and scale; stored with the settings.
        mode: as `vqathinker.scoring.Mode` takes it, such as `samples=8`; greedy if omitted.

    Raises:
        ValueError: if `out` holds results of a run with other settings.
        OSError: if `out` cannot be written; what was written stays.
    """
    folder = None if out is None else Path(out)
    keeping = Keeping(folder, overwrite=overwrite, shard=shard, origin=origin or {})
    with Evaluating(scorer, dataset, keeping, Mode(**mode)) as scores:
        for _ in scores:
            pass
    return scores.result()


def _scored(dataset: Dataset) -> Dataset:
    """The samples that have a score to compare with."""
    tasks = tasks_of(dataset)
    rows = [row for row, task in enumerate(tasks) if task == SCORE]
    others = ", ".join(sorted(set(tasks) - {SCORE}))
    if not rows:
        raise ValueError(f"all samples are of {others}: none has a score to compare with")
    if others:
        left_out = len(tasks) - len(rows)
        logger.warning("%d samples of %s are left out: they have no score to compare with", left_out, others)
    return dataset.select(rows) if others else dataset


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
    names = ["dataset", "video_id", "mos", "target"]
    names += ["question"] if "question" in dataset.column_names else []
    columns = [dataset[name][:] for name in names]
    digest = hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]
    ranges: dict[str, list[list[float]]] = {}
    bounds = (dataset[name] for name in ("dataset", "mos_low", "mos_high"))
    for name, low, high in sorted(set(zip(*bounds, strict=True))):
        ranges.setdefault(name, []).append([low, high])
    return {"num_labels": dataset.num_rows, "labels_digest": digest, "native_ranges": ranges}
