"""A checkpoint's answers to the questions of a file, each kept as it comes; judged and counted in the end."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vqathinker.evaluation.evaluating import scorer_settings
from vqathinker.evaluation.folder import SUMMARY_FILE, TABLE_FILES, Keeping
from vqathinker.evaluation.question_report import ANSWERS_FILE, QuestionReport
from vqathinker.evaluation.questions import is_closed, is_named, is_open, problem, wording
from vqathinker.samples import Sample
from vqathinker.scoring.mode import Mode
from vqathinker.scoring.result import Reply

if TYPE_CHECKING:
    from vqathinker.scoring.scorer import Scorer

JUDGES_FOLDER = "judges"
QUESTION_FILES = (ANSWERS_FILE, SUMMARY_FILE, *TABLE_FILES)


class QuestionRun:
    """The answers to questions: iterate over it for those about each medium, then ask for the `report`.

    Every medium is decoded and encoded once for all of its questions. A run with the same settings goes on
    where the last one stopped, and tries media again that could not be read.

    Args:
        scorer: the checkpoint with its engine, batch size and reading processes.
        samples: what is asked; those that are no question with a known answer are left out.
        folder: that the paths of media start from.
        keeping: where answers are kept.

    Attributes:
        samples: the questions.
        num_left_out: samples that are none.
        kept: questions whose answer stays.
        left: media that this process is asked about, each with the places of its questions.

    Raises:
        ValueError: if there is no question, or the folder holds answers of a run with other settings.
        OSError: if the folder cannot be written.
    """

    def __init__(
        self, scorer: Scorer, samples: Sequence[Sample], folder: str | os.PathLike[str], keeping: Keeping
    ) -> None:
        self.scorer = scorer
        self.samples = [
            sample for sample in samples if is_closed(sample) or is_named(sample) or is_open(sample)
        ]
        self.num_left_out = len(samples) - len(self.samples)
        if not self.samples:
            raise ValueError(f"none of {len(samples)} samples is a question with a known answer")
        for sample in self.samples:
            if found := problem(sample):
                raise ValueError(f"the sample {sample.id!r}: {found}")
        self.folder = folder
        self.keeping = keeping
        asked = [
            [*sample.key, wording(sample), [medium.path for medium in sample.media]]
            for sample in self.samples
        ]
        self.settings: dict[str, Any] = {
            **keeping.origin,
            **scorer_settings(scorer, Mode()),
            "num_questions": len(self.samples),
            "labels_digest": hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16],
        }
        self._answers = keeping.open(self.settings)
        self.kept = {row for row in range(len(self.samples)) if row in self._answers}
        self.left = self._left()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._answers.close()

    def __iter__(self) -> Iterator[list[Reply]]:
        """Ask what is left, keeping the answers about a medium before they are handed out."""
        asked = []
        for rows in self.left:
            media = [os.path.join(self.folder, medium.path) for medium in self.samples[rows[0]].media]
            asked.append((media, [wording(self.samples[row]) for row in rows]))
        for rows, replies in zip(self.left, self.scorer.interview(asked), strict=True):
            for row, reply in zip(rows, replies, strict=True):
                entry = {"row": row, "id": self.samples[row].id, "text": reply.text, "error": reply.error}
                self._answers.add(entry)
            yield replies

    def report(self) -> QuestionReport:
        """The answers so far, with those that other shards have found meanwhile; not judged yet."""
        self._answers.read()
        answers = self._answers.entries
        texts = {row: entry["text"] for row, entry in answers.items() if entry["error"] is None}
        errors = {row: entry["error"] for row, entry in answers.items() if entry["error"] is not None}
        return QuestionReport(self.samples, texts, errors, self.settings)

    def _left(self) -> list[list[int]]:
        """The media of this shard with a question that has no answer."""
        media: dict[tuple[Any, ...], list[int]] = {}
        for row, sample in enumerate(self.samples):
            media.setdefault(sample.media, []).append(row)
        index, number = self.keeping.shard
        own = list(media.values())[index::number]
        open_rows = [[row for row in rows if row not in self.kept] for rows in own]
        return [rows for rows in open_rows if rows]


def judge_folder(out: Path, name: str) -> Path:
    """Where the journal of a judge lies beside the answers: one folder for each model and address.

    >>> judge_folder(Path("out"), "judge@http://localhost:8000/v1").as_posix()
    'out/judges/judge-http-localhost-8000-v1'
    """
    return out / JUDGES_FOLDER / re.sub(r"[^\w.]+", "-", name).strip("-")
