"""What answers to questions are worth: right or wrong, as a judge grades them, and by what they are about."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from vqathinker.atomic import write_table, write_whole
from vqathinker.evaluation.folder import SUMMARY_FILE, TABLE_FILES
from vqathinker.evaluation.markup import cell, latex, markdown
from vqathinker.evaluation.questions import (
    chance,
    facets,
    is_closed,
    is_open,
    is_right,
    majority,
    parse_choice,
)
from vqathinker.grading import PROMPT, SYSTEM, Grade, Grader
from vqathinker.journal import without_nan
from vqathinker.metrics import Estimate, kappa_interval, mean_of_answers
from vqathinker.samples import Sample

ANSWERS_FILE = "answers.csv"
HUMAN = "human"
ALL = "all"
CLOSED = "closed or named"
OPEN = "open"
MOST_ALIKE = 10  # different questions, up to which they are counted one by one


@dataclass(frozen=True)
class Counted:
    """What the answers to some of the questions are worth.

    Attributes:
        name: of what they have in common, empty for all.
        value: of it.
        points: mean of 1 for a right choice, 0 for another one or none, and a judge's grade from 0 to 1.
        num_questions: answered and graded.
        num_unparsed: closed ones without a choice, which count as wrong.
        chance: accuracy of drawn letters on the closed ones.
        majority: their answer that is right most often.
        majority_share: accuracy of who gives it always.
    """

    name: str
    value: str
    points: Estimate
    num_questions: int
    num_unparsed: int
    chance: float
    majority: str
    majority_share: float


@dataclass
class QuestionReport:
    """Answers to questions, and their grades.

    Attributes:
        samples: N questions.
        texts: the answers by the question's place.
        errors: why there is no answer, likewise.
        settings: what shaped the answers.
        grades: of the open ones by each judge, by place.
        judges: what each judge is known by.
        human: grades that people gave, by the samples' keys.
    """

    samples: Sequence[Sample]
    texts: Mapping[int, str]
    errors: Mapping[int, str]
    settings: Mapping[str, Any]
    grades: dict[str, dict[int, Grade]] = field(default_factory=dict)
    judges: dict[str, dict[str, Any]] = field(default_factory=dict)
    human: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def num_pending(self) -> int:
        """Questions without an answer, left to other shards."""
        return len(self.samples) - len(self.texts) - len(self.errors)

    @property
    def open_rows(self) -> list[int]:
        """The places of answered open questions."""
        return [row for row in sorted(self.texts) if is_open(self.samples[row])]

    def to_judge(self, rows: Sequence[int]) -> list[tuple[str, str, str]]:
        """What a judge needs of some open questions: each with its reference and the answer."""
        samples = [self.samples[row] for row in rows]
        texts = [self.texts[row] for row in rows]
        return [
            (one.question or "", one.answer or "", text) for one, text in zip(samples, texts, strict=True)
        ]

    def judge(self, name: str, grader: Grader, rows: Sequence[int]) -> None:
        """Have a judge grade the answers to some open questions.

        Args:
            name: of the judge.
            grader: who grades.
            rows: places of the questions.
        """
        grades = grader.grade_all(self.to_judge(rows))
        self.grades.setdefault(name, {}).update(zip(rows, grades, strict=True))
        self.judges[name] = {
            "model": grader.client.model,
            "served": grader.client.served_model,
            "rounds": grader.rounds,
            "temperature": grader.client.temperature,
            "system": SYSTEM,
            "prompt": PROMPT,
        }

    def judging(self, name: str) -> dict[str, int]:
        """How many answers a judge has graded, in how many all rounds agree, and what is missing."""
        found = list(self.grades.get(name, {}).values())
        asked = [grade for grade in found if len(grade.votes) > 1]
        partly = [grade for grade in found if grade.votes and grade.num_unread]
        return {
            "graded": len([grade for grade in found if grade.votes]),
            "ungraded": len([grade for grade in found if not grade.votes]),
            "partly graded": len(partly),
            "of several rounds": len(asked),
            "unanimous": len([grade for grade in asked if grade.is_unanimous]),
        }

    def faults(self, name: str) -> list[str]:
        """Why a judge has not graded, each reason once."""
        errors = [grade.error for grade in self.grades.get(name, {}).values()]
        return list(dict.fromkeys(error for error in errors if error is not None))

    @property
    def num_ungraded(self) -> int:
        """Answers to open questions that lack the grade of a judge."""
        return len([row for row in self.open_rows if math.isnan(self.points(row))])

    def points(self, row: int) -> float:
        """What an answer is worth: a choice 0 or 1, an open one the mean of its judges' grades.

        NaN where nobody was asked, or one who was asked has not graded.
        """
        verdict = is_right(self.samples[row], self.texts[row])
        if verdict is not None:
            return float(verdict)
        values = [graded[row].value for graded in self.grades.values() if row in graded]
        return sum(values) / len(values) if values else math.nan

    def parts(self) -> list[Counted]:
        """All, closed and open questions, then those with each value of what they are counted by."""
        rows = sorted(self.texts)
        named: dict[tuple[str, str], list[int]] = {("", ALL): rows}
        closed = [row for row in rows if not is_open(self.samples[row])]
        if 0 < len(closed) < len(rows):
            named["", CLOSED] = closed
            named["", OPEN] = self.open_rows
        facet_rows: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            for facet in facets(self.samples[row]):
                facet_rows.setdefault(facet, []).append(row)
        # as of FineVD, which asks the same five of each video
        asked = Counter(self.samples[row].question or "" for row in rows)
        if 1 < len(asked) <= MOST_ALIKE and min(asked.values()) > 1:
            for row in rows:
                facet_rows.setdefault(("question", self.samples[row].question or ""), []).append(row)
        order = list(dict.fromkeys(name for name, _ in facet_rows))
        for facet in sorted(facet_rows, key=lambda pair: (order.index(pair[0]), pair[1])):
            named[facet] = facet_rows[facet]
        return [self._part(*names, own) for names, own in named.items()]

    def _part(self, name: str, value: str, rows: Sequence[int]) -> Counted:
        graded = [(row, points) for row in rows if not math.isnan(points := self.points(row))]
        samples = [self.samples[row] for row, _ in graded]
        best, share = majority(samples)
        return Counted(
            name=name,
            value=value,
            points=mean_of_answers([points for _, points in graded], [sample.media for sample in samples]),
            num_questions=len(graded),
            num_unparsed=len([row for row in rows if self._is_unparsed(row)]),
            chance=chance(samples),
            majority=best,
            majority_share=share,
        )

    def _is_unparsed(self, row: int) -> bool:
        sample = self.samples[row]
        return is_closed(sample) and parse_choice(self.texts[row], sample.options) is None

    def agreement(self) -> Iterator[tuple[str, str, int, Estimate]]:
        """Cohen's κ of every two of judges and people, over the answers that both have graded."""
        raters: dict[str, dict[int, int]] = {
            name: {row: grade.majority for row, grade in graded.items() if grade.majority is not None}
            for name, graded in self.grades.items()
        }
        if self.human:
            keys = {row: self.samples[row].key for row in self.open_rows}
            raters[HUMAN] = {row: self.human[key] for row, key in keys.items() if key in self.human}
        for one, other in combinations(raters, 2):
            both = sorted(raters[one].keys() & raters[other].keys())
            first = [raters[one][row] for row in both]
            second = [raters[other][row] for row in both]
            if both:
                yield one, other, len(both), kappa_interval(first, second)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """A header and a row for each part, as text."""
        header = ["questions", "number", "score", "unparsed", "chance", "majority"]
        rows = []
        for part in self.parts():
            title = f"{part.name}: {part.value}" if part.name else part.value
            usual = f"{part.majority_share:.3f} ({part.majority})" if part.majority else "–"
            drawn = "–" if math.isnan(part.chance) else f"{part.chance:.3f}"
            score = cell(part.points) if part.num_questions else "–"
            rows.append([title, str(part.num_questions), score, str(part.num_unparsed), drawn, usual])
        return header, rows

    def summary(self) -> dict[str, Any]:
        """Everything but the answers."""
        return {
            "questions": len(self.samples),
            "unreadable": len(self.errors),
            "ungraded": self.num_ungraded,
            "parts": [
                {"name": part.name, "value": part.value, "number": part.num_questions}
                | {"score": part.points.value, "low": part.points.low, "high": part.points.high}
                | {"unparsed": part.num_unparsed, "chance": part.chance}
                | {"majority": part.majority, "majority_share": part.majority_share}
                for part in self.parts()
            ],
            "judges": {name: known | self.judging(name) for name, known in self.judges.items()},
            "agreement": [
                {"between": [one, other], "number": number}
                | {"kappa": found.value, "low": found.low, "high": found.high}
                for one, other, number, found in self.agreement()
            ],
            "settings": dict(self.settings),
        }

    def write(self, directory: Path) -> None:
        """Write `answers.csv`, `summary.json` and tables, each in one piece."""
        text = json.dumps(without_nan(self.summary()), indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(directory / SUMMARY_FILE, text + "\n")
        columns = ["id", "dataset", "media", "task", "question", "key", "answer", "choice", "points", "error"]
        columns += [f"votes: {name}" for name in self.grades]
        write_table(directory / ANSWERS_FILE, columns, map(self._row, range(len(self.samples))))
        header, rows = self.table()
        for name, layout in zip(TABLE_FILES, (markdown, latex), strict=True):
            write_whole(directory / name, layout(header, rows))

    def _row(self, row: int) -> dict[str, Any]:
        sample = self.samples[row]
        answer = self.texts.get(row, "")
        choice = parse_choice(answer, sample.options) if is_closed(sample) else None
        points = self.points(row) if row in self.texts else math.nan
        votes = {
            f"votes: {name}": " ".join(map(str, graded[row].votes)) or graded[row].error
            for name, graded in self.grades.items()
            if row in graded
        }
        return {
            "id": sample.id,
            "dataset": sample.dataset,
            "media": " ".join(medium.path for medium in sample.media),
            "task": sample.task,
            "question": sample.question,
            "key": sample.options[sample.correct] if sample.correct is not None else sample.answer,
            "answer": answer,
            "choice": "" if choice is None else sample.options[choice],
            "points": "" if math.isnan(points) else points,
            "error": self.errors.get(row, ""),
            **votes,
        }
