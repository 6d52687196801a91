"""A checkpoint's answers to the questions of a file, each kept as it comes; judged and counted in the end."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vqathinker.chat import folder_of
from vqathinker.data.overlap import fingerprints
from vqathinker.evaluation.evaluating import scorer_settings
from vqathinker.evaluation.folder import SUMMARY_FILE, TABLE_FILES, Keeping
from vqathinker.evaluation.question_report import ANSWERS_FILE, QuestionReport
from vqathinker.evaluation.questions import is_closed, is_named, is_open, problem, wording
from vqathinker.journal import KeptRows
from vqathinker.samples import Media, Sample
from vqathinker.scoring.mode import Mode
from vqathinker.scoring.result import Reply
from vqathinker.scoring.sources import cut_batches
from vqathinker.scoring.task import Asked

if TYPE_CHECKING:
    from vqathinker.scoring.scorer import Scorer

JUDGES_FOLDER = "judges"
QUESTION_FILES = (ANSWERS_FILE, SUMMARY_FILE, *TABLE_FILES)


class QuestionRun:
    """The answers to questions: iterate over it for those about each medium, then ask for the `report`.

    Every medium is decoded and encoded once for all of its questions. A run with the same settings goes on
    where the last one stopped, and tries media again that could not be read or have changed.

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
        media = [os.path.join(folder, medium.path) for one in self.samples for medium in one.media]
        known = iter(fingerprints(media))
        self._keys = [(row, tuple(next(known) for _ in one.media)) for row, one in enumerate(self.samples)]
        self._answers = keeping.open(self.settings, KeptRows)
        self.kept = {key[0] for key in self._keys if key in self._answers}
        self.left = self._left()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._answers.close()

    def __iter__(self) -> Iterator[list[Reply]]:
        """Ask what is left, keeping the answers about a medium before they are handed out."""
        asked = [self._asked(rows) for rows in self.left]
        for rows, replies in zip(self.left, self.scorer.interview(asked), strict=True):
            for row, reply in zip(rows, replies, strict=True):
                if row not in self.kept:
                    said = {"id": self.samples[row].id, "text": reply.text, "error": reply.error}
                    self._answers.add({"row": row, **said, "file": list(self._keys[row][1])})
            yield replies

    def report(self) -> QuestionReport:
        """The answers so far, with those that other shards have found meanwhile; not judged yet."""
        self._answers.read()
        found = self._answers.entries
        answers = {key[0]: found[key] for key in self._keys if key in found}
        texts = {row: entry["text"] for row, entry in answers.items() if entry["error"] is None}
        errors = {row: entry["error"] for row, entry in answers.items() if entry["error"] is not None}
        return QuestionReport(self.samples, texts, errors, self.settings)

    def _asked(self, rows: Sequence[int]) -> Asked:
        """The questions about one medium, or about two that are shown together."""
        media = self.samples[rows[0]].media
        paths = [os.path.join(self.folder, medium.path) for medium in media]
        return Asked(tuple(paths), tuple(wording(self.samples[row]) for row in rows))

    def _left(self) -> list[list[int]]:
        """The media of this shard's batches in which an answer is missing, each with its questions' places.

        Batches are cut at the same media whatever was answered before and by whom, as in `Evaluating`.
        """
        about: dict[tuple[Media, ...], list[int]] = {}
        for row, sample in enumerate(self.samples):
            about.setdefault(sample.media, []).append(row)
        media = list(about.values())
        index, number = self.keeping.shard
        cuts = cut_batches([len(rows) for rows in media], self.scorer.batch_size)
        batches = [media[cut] for cut in cuts[index::number]]
        return [
            rows for batch in batches if not self.kept.issuperset(itertools.chain(*batch)) for rows in batch
        ]


def judge_folder(out: Path, name: str) -> Path:
    """Where the journal of a judge lies beside the answers: one folder for each model and address.

    >>> judge_folder(Path("out"), "judge@http://localhost:8000/v1").as_posix()
    'out/judges/judge-http-localhost-8000-v1'
    """
    model, _, url = name.partition("@")
    return out / JUDGES_FOLDER / folder_of(model, url)
