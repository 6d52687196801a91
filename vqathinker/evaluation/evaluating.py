"""The way of an evaluation: what is left to score, score it, keep each result, sum up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from datasets import Dataset

from vqathinker.data.label_rows import label_settings, scored_rows
from vqathinker.data.overlap import fingerprints
from vqathinker.evaluation.folder import Keeping
from vqathinker.evaluation.summary import Evaluation, summarise
from vqathinker.journal import KeptRows, left_to_score
from vqathinker.scoring import Mode, Score, Scorer

LIBRARIES = ("vqathinker", "torch", "transformers", "trl", "decord", "av")


class Evaluating:
    """The scoring of a data set: iterate over it for each score as it comes, then ask for the `result`.

    Batches are cut at the same rows whatever was scored before and by whom, so that an interrupted or
    sharded run answers each video in the same company as an undisturbed one.

    Args:
        scorer: the checkpoint with its engine, batch size and reading processes.
        dataset: rows from `vqathinker.data.dataset.load_labels`.
        keeping: where results are kept. A run with the same settings goes on where the last one stopped; it
            tries files again that were unreadable or have changed. The run that completes the rows writes
            the summary.
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
        self.dataset = scored_rows(dataset)
        self.keeping = keeping
        self.mode = mode
        self.settings = {**keeping.origin, **scorer_settings(scorer, mode), **label_settings(self.dataset)}
        self._files = list(enumerate(fingerprints(self.dataset["path"])))
        self._results = keeping.open(self.settings, KeptRows)
        self.kept = {row for row, file in self._files if (row, file) in self._results}
        self.left = left_to_score(self.dataset.num_rows, scorer.batch_size, self.kept, keeping.shard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._results.close()

    def __iter__(self) -> Iterator[Score]:
        """Score what is left, keeping each result before it is handed out."""
        rows = self.dataset.select(self.left)
        questions = rows["question"][:] if "question" in rows.column_names else None
        scores = self.scorer.stream(rows["path"][:], expand=False, questions=questions, **asdict(self.mode))
        for row, video_id, score in zip(self.left, rows["video_id"], scores, strict=True):
            if row not in self.kept:
                entry = _entry(row, video_id, score, self.scorer.batch_size)
                self._results.add({**entry, "file": self._files[row][1]})
            yield score

    def result(self) -> Evaluation:
        """Sum up, with what other shards have found meanwhile; written once every row has its result."""
        self._results.read()
        found = self._results.entries
        entries = {row: found[row, file] for row, file in self._files if (row, file) in found}
        result = summarise(self.dataset, entries, self.settings)
        if self.keeping.folder is not None and not result.num_pending:
            result.write(self.keeping.folder, overwrite=True)
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
    # what is drawn for a video depends on who is answered with it
    company = {"batch_size": scorer.batch_size} if mode.samples > 1 else {}
    levels = {"words": processor.level_words, "question": processor.level_question}
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
        **company,
        **({"levels": levels} if mode.levels else {}),
    }
