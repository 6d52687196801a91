"""Reward of a judge, a language model that compares a response with a right answer."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np

from rewards.check import left_out
from vqathinker.chat import ChatClient
from vqathinker.grading import Grader
from vqathinker.types import FloatArray, RolloutBatch

# of `vqathinker serve --judge`
MODEL = "judge"
URL = "http://127.0.0.1:8000/v1"
RECENT = 32  # samples
FEWEST = 8  # of which a share says something


class JudgeReward:
    """A judge's grade of each response, as a share of the best one: 0, .5 or 1, of several rounds their mean.

    Open questions and descriptions; what has options or no reference answer is left out, and so is a sample
    one of whose responses got no grade: a group is compared as a whole. Of several processes one asks.
    """

    tasks = ("question", "description")
    runs_once = True

    def __init__(
        self, model: str = MODEL, *, url: str = URL, rounds: int = 1, most_failed: float = 0.5, **client: Any
    ) -> None:
        """Set who is asked.

        Args:
            model: its name at the server.
            url: of the server, up to `/v1`.
            rounds: of each response.
            most_failed: share of the last 32 samples without a grade that ends the run.
            client: as `vqathinker.chat.ChatClient` takes it: time_limit, concurrency, journal ...

        Raises:
            ValueError: if the share is none, or there is no round.
            TypeError: for an argument that a client does not have.
        """
        if not 0 <= most_failed <= 1:
            raise ValueError(f"most_failed is a share from 0 to 1, got {most_failed}")
        if rounds < 1:
            raise ValueError(f"{rounds} rounds: a judge is asked at least once")
        signature(ChatClient).bind(model, url=url, **client)  # wrong ones are told before a run
        self.model = model
        self.rounds = rounds
        self.most_failed = most_failed
        # rounds at a temperature of 0 would say the same; a step does not wait for six tries
        temperature = 1.0 if rounds > 1 else 0.0
        self.client = {"url": url, "retries": 1, "temperature": temperature, **client}
        self._recent: deque[bool] = deque(maxlen=RECENT)  # whether each of the last samples got its grade

    @cached_property
    def grader(self) -> Grader:
        """Who grades; connected when it is first asked."""
        return Grader(ChatClient(self.model, **self.client), self.rounds)

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        """Return (N, K) rewards between 0 and 1, masked where there is no reference or no grade.

        Raises:
            ValueError: if too many of the last samples got no grade.
        """
        rewards = np.full(batch.scores.shape, np.nan)
        options = batch.columns.get("options", [None] * batch.num_videos)
        known = [row for row in range(batch.num_videos) if batch.reference[row] and not options[row]]
        if not known:
            return left_out(rewards)
        asked = [
            (batch.question[row] or "", str(batch.reference[row]), text)
            for row in known
            for text in batch.texts[row]
        ]
        grades = self.grader.grade_all(asked)
        errors = []
        for place, row in enumerate(known):
            group = grades[place * batch.num_responses : (place + 1) * batch.num_responses]
            error = next((grade.error for grade in group if grade.error is not None), None)
            if error is None:
                rewards[row] = [grade.value for grade in group]
            else:
                errors.append(error)
        self._count(len(known), errors)
        return left_out(rewards)

    def _count(self, number: int, errors: list[str]) -> None:
        """Note which of some samples got no grade.

        Raises:
            ValueError: if too many of the last ones did not.
        """
        self._recent.extend([True] * (number - len(errors)) + [False] * len(errors))
        failed = self._recent.count(False)
        if errors and len(self._recent) >= FEWEST and failed > self.most_failed * len(self._recent):
            raise ValueError(f"the judge has not graded {failed} of {len(self._recent)} samples; {errors[0]}")
