"""Judges of statements (VITAL, arXiv 2511.17962, sections 3.1 and 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vqathinker.chat import ChatClient, Question
from vqathinker.choices import YES_NO, parse_choice
from vqathinker.instructions.base import Built, kind_word, unreadable
from vqathinker.instructions.showing import Show
from vqathinker.instructions.wording import JUDGE_PROMPT, SELF_JUDGE_PROMPTS
from vqathinker.media.container import VideoError
from vqathinker.samples import Sample

ROUNDS = 3
DISCARD = 0
REVISE = 1
KEEP = 2
LONGEST = 400  # letters of what a judge writes
SECOND_TRY = 1000  # added to the round of a question whose answer could not be read
SCHEMA = {
    "type": "object",
    "properties": {
        "score": {"type": "integer", "enum": [DISCARD, REVISE, KEEP]},
        "correction": {"type": "string", "maxLength": LONGEST},
        "reason": {"type": "string", "maxLength": LONGEST},
    },
    "required": ["score", "correction", "reason"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Judgement:
    """One judge's answer in one round.

    Attributes:
        score: 0 to discard the statement, 1 to revise it, 2 to keep it.
        correction: the statement put right.
        reason: why it is discarded.
    """

    score: int
    correction: str = ""
    reason: str = ""


class Judging:
    """Keeps a statement that no judge discards in any round; the first correction is taken over as it is.

    What is kept is asked of the annotator itself, in other words each round, and has to be agreed to each
    time. Votes go to the column `votes`, the statement before a correction to `revised`. A judge's rounds are
    one question with other seeds: at a temperature of 0 they say the same.

    Args:
        judges: name to the model asked.
        show: the pictures of media.
        self_judge: the model that wrote the statements; not asked if omitted.
        rounds: of each judge, and of the self-judge.
    """

    def __init__(
        self,
        judges: dict[str, ChatClient],
        show: Show,
        *,
        self_judge: ChatClient | None = None,
        rounds: int = ROUNDS,
    ) -> None:
        self.judges = judges
        self.show = show
        self.self_judge = self_judge
        self.rounds = rounds

    def __call__(self, sample: Sample) -> Built:
        """The statement, kept or put right, or why it is not kept.

        Raises:
            ChatError: if a judge does not answer.
        """
        try:
            images = self.show(sample.media)
        except VideoError as error:
            return Built([], [unreadable(error)])
        votes: dict[str, list[int]] = {name: [] for name in self.judges}
        correction = ""
        for number in range(self.rounds):
            for name, judge in self.judges.items():
                judgement = _judge(judge, sample, images, number)
                if judgement is None:
                    return Built.rejected("a judge's answer cannot be read", name)
                if judgement.score == DISCARD:  # nothing that others say can keep it
                    return Built.rejected("a judge disagrees", f"{name}: {judgement.reason}")
                votes[name].append(judgement.score)
                if judgement.score == REVISE and not correction:
                    correction = judgement.correction.strip()
        has_doubt = any(REVISE in given for given in votes.values())
        if has_doubt and not correction:
            return Built.rejected("a judge corrects, and does not say how")
        kept = replace(sample, columns={**sample.columns, "votes": votes})
        if correction:
            columns = {**kept.columns, "revised": sample.answer}
            kept = replace(kept, answer=correction, columns=columns)
        if self.self_judge is not None and not self._agrees(kept, images):
            return Built.rejected("its own annotator does not agree", str(kept.answer))
        return Built([kept])

    def _agrees(self, sample: Sample, images: Sequence[bytes]) -> bool:
        """Whether the annotator agrees to the statement, however it is asked."""
        assert self.self_judge is not None
        for number in range(self.rounds):
            prompt = SELF_JUDGE_PROMPTS[number % len(SELF_JUDGE_PROMPTS)]
            text = prompt.format(kind=kind_word(sample), statement=sample.answer)
            said = self.self_judge.ask(Question(text, tuple(images), round=number))
            if not agrees(said):
                return False
        return True


def agrees(said: str) -> bool:
    """Whether an answer to a question with the letters A and B is A; what is neither is not.

    >>> agrees("A. Yes"), agrees("**A**"), agrees("**B**"), agrees("A statement like that is wrong.")
    (True, True, False, False)
    """
    return parse_choice(said, YES_NO) == 0


def _judge(judge: ChatClient, sample: Sample, images: Sequence[bytes], number: int) -> Judgement | None:
    """What a judge says in a round, asked a second time where it cannot be read; None if it never can."""
    text = JUDGE_PROMPT.format(kind=kind_word(sample), statement=sample.answer)
    for attempt in (number, number + SECOND_TRY):
        try:
            said = judge.ask_json(Question(text, tuple(images), schema=SCHEMA, round=attempt))
        except ValueError:  # no JSON; ChatError is none of these
            continue
        score = said.get("score")
        if isinstance(score, int) and not isinstance(score, bool) and DISCARD <= score <= KEEP:
            return Judgement(score, str(said.get("correction", "")), str(said.get("reason", "")))
    return None
