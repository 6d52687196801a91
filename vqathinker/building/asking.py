"""Stages that ask language models: who is asked, and what becomes of questions without an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vqathinker.building.stage import Workplace
from vqathinker.chat import ChatClient, ChatError
from vqathinker.instructions import Built
from vqathinker.samples import Sample

UNANSWERED = "a model did not answer"
MOST_IN_A_ROW = 20  # samples without an answer, after which the server counts as gone


def clients_of(place: Workplace, options: Mapping[str, Any], names: Iterable[str]) -> dict[str, ChatClient]:
    """The clients of the language models that some options name."""
    return {name: place.client(options[name]) for name in names if options.get(name) is not None}


def attempt(make: Callable[[], Built]) -> Built:
    """What is made; where a model does not answer, a rejection that the next run tries again."""
    try:
        return make()
    except ChatError as error:
        return Built.rejected(UNANSWERED, str(error), passes=True)


class Patience:
    """Works on samples in threads, until too many in a row have no answer, over all parts of a stage.

    Args:
        concurrency: samples at a time.
    """

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self._in_a_row = 0

    def map(self, make: Callable[[Sample], Built], samples: Sequence[Sample]) -> Iterator[Built]:
        """What is made of each sample, in order.

        Raises:
            ChatError: if the server seems to be gone; what was answered is in the journal.
        """
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="asking")
        try:
            for built in pool.map(lambda sample: attempt(lambda: make(sample)), samples):
                self._count(built)
                yield built
        finally:
            pool.shutdown(cancel_futures=True)

    def _count(self, built: Built) -> None:
        unanswered = [rejection for rejection in built.rejections if rejection.reason == UNANSWERED]
        self._in_a_row = self._in_a_row + 1 if unanswered else 0
        if self._in_a_row == MOST_IN_A_ROW:
            raise ChatError(
                f"{MOST_IN_A_ROW} samples in a row got no answer; the last: {unanswered[0].detail}"
            )


def most_at_once(clients: Mapping[str, ChatClient], concurrency: int | None) -> int:
    """Samples to work on at a time: as told, or as many as a model takes questions."""
    return concurrency or max((client.concurrency for client in clients.values()), default=1)
