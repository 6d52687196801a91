"""Grades of open answers by a judge, a language model: 0 for a wrong one, 1 for a part, 2 for a right one.

Source: Q-Bench-Video (arXiv 2409.20063): three grades, asked five times; S2I-Bench of Score2Instruct
(arXiv 2506.21011) is judged likewise.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vqathinker.chat import ChatClient, ChatError, Question, parse_object
from vqathinker.choices import THOUGHT, said

ROUNDS = 5
WORST = 0
BEST = 2
UNREAD = "no reply holds a score of 0, 1 or 2"
LONGEST = 300  # letters of a judge's reason
SYSTEM = "You grade answers to questions about the quality of videos and pictures."
PROMPT = """\
Question: {question}
Reference answer: {reference}
Answer to grade: {answer}

Compare them by what they say, not by their words: is the answer complete, accurate and relevant?
2: it says the same as the reference, or all that matters of it.
1: it says a part of the reference, or the whole of it beside something wrong.
0: it says something else, nothing, or the contrary.
Reply with a JSON object: {{"score": 0, 1 or 2, "reason": "in one sentence"}}"""
SCHEMA = {
    "type": "object",
    "properties": {
        "score": {"type": "integer", "enum": [0, 1, BEST]},
        "reason": {"type": "string", "maxLength": LONGEST},
    },
    "required": ["score", "reason"],
    "additionalProperties": False,
}
# where a judge writes no JSON; neither "1.5" nor "2/10"
WRITTEN = re.compile(r"\bscore\W{0,4}(?:(?:is|of)\W+)?([0-2])(?![\d/]|[.,]\d)", re.IGNORECASE)
SECOND_TRY = 1000  # added to the round of a question whose reply could not be read


@dataclass(frozen=True)
class Grade:
    """What a judge says of one answer in several rounds.

    Attributes:
        votes: a grade for each round that could be read.
        error: why there are none; None if there are.
        num_unread: rounds without a grade.
    """

    votes: tuple[int, ...] = ()
    error: str | None = None
    num_unread: int = 0

    @property
    def value(self) -> float:
        """The mean vote as a share of the best one: 0 to 1; NaN without votes.

        >>> Grade((2, 1, 2, 2, 1)).value
        0.8
        """
        return sum(self.votes) / len(self.votes) / BEST if self.votes else math.nan

    @property
    def majority(self) -> int | None:
        """The most frequent vote, of equally frequent ones the lowest; None without votes.

        >>> Grade((2, 1, 2, 0, 1)).majority
        1
        """
        counts = Counter(self.votes)
        return min(counts, key=lambda vote: (-counts[vote], vote)) if counts else None

    @property
    def is_unanimous(self) -> bool:
        """Whether several rounds all say the same."""
        return len(self.votes) > 1 and len(set(self.votes)) == 1


class Grader:
    """Asks a judge for grades; an empty answer is wrong without being asked about.

    A round is the same question with another seed: at a temperature of 0 they say the same.

    Args:
        client: of the judge.
        rounds: of each answer.
    """

    def __init__(self, client: ChatClient, rounds: int = ROUNDS) -> None:
        if rounds < 1:
            raise ValueError(f"{rounds} rounds: a judge is asked at least once")
        self.client = client
        self.rounds = rounds

    def questions(self, question: str, reference: str, answer: str) -> list[Question]:
        """What the judge is asked about an answer, a question for each round; nothing about an empty one."""
        text = said(answer)
        if not text:
            return []
        prompt = PROMPT.format(question=question, reference=reference, answer=text)
        return [Question(prompt, system=SYSTEM, schema=SCHEMA, round=number) for number in range(self.rounds)]

    def grade_all(self, answers: Iterable[tuple[str, str, str]]) -> list[Grade]:
        """Grade N answers, several at a time.

        Args:
            answers: of each the question, a right answer, and the response; of one with an answer block that
                alone is graded.
        """
        asked = [self.questions(*answer) for answer in answers]
        votes = iter(self._votes([question for questions in asked for question in questions]))
        return [_grade([next(votes) for _ in questions]) for questions in asked]

    def _votes(self, questions: list[Question]) -> list[int | str]:
        """The vote in each reply, asked a second time where there is none; why there is none of either."""
        votes = [_vote(reply) for reply in self.client.ask_all(questions)]
        unread = [place for place, vote in enumerate(votes) if vote == UNREAD]
        again = [replace(questions[place], round=questions[place].round + SECOND_TRY) for place in unread]
        for place, reply in zip(unread, self.client.ask_all(again) if again else [], strict=True):
            votes[place] = _vote(reply)
        return votes


def _vote(reply: str | ChatError) -> int | str:
    """The vote in a reply, or why there is none."""
    if isinstance(reply, ChatError):
        return str(reply)
    vote = read_vote(reply)
    return UNREAD if vote is None else vote


def _grade(found: list[int | str]) -> Grade:
    """The grade of an answer by what its rounds gave."""
    if not found:
        return Grade((WORST,))
    votes = tuple(vote for vote in found if isinstance(vote, int))
    faults = [fault for fault in found if isinstance(fault, str)]
    return Grade(votes, faults[0] if faults and not votes else None, len(faults))


def read_vote(reply: str) -> int | None:
    """The score in a judge's reply, None if there is none.

    >>> [read_vote(reply) for reply in ('{"score": 2.0, "reason": "the same"}', "Score: 1", "score: 1.5")]
    [2, 1, None]
    """
    rest = THOUGHT.sub("", reply)
    try:
        score = parse_object(rest).get("score")
    except ValueError:  # no JSON
        found = {int(vote) for vote in WRITTEN.findall(rest.replace("*", ""))}
        return found.pop() if len(found) == 1 else None
    votes = {text: vote for vote in range(WORST, BEST + 1) for text in (f"{vote}", f"{vote}.0")}
    return votes.get(str(score))
