"""Stages that ask language models: who is asked, and what becomes of questions without an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from vqathinker.building.stage import Place
from vqathinker.chat import ChatClient, ChatError
from vqathinker.instructions import Built

UNANSWERED = "a model did not answer"
MOST_IN_A_ROW = 20  # samples without an answer, after which the server counts as gone


def clients_of(place: Place, options: Mapping[str, Any], names: Iterable[str]) -> dict[str, ChatClient]:
    """The clients of the language models that some options name."""
    return {name: place.client(options[name]) for name in names if options.get(name) is not None}


def attempt(make: Callable[[], Built]) -> Built:
    """What is made; where a model does not answer, a rejection that the next run tries again."""
    try:
        return make()
    except ChatError as error:
        return Built.rejected(UNANSWERED, str(error), passes=True)


def watched(results: Iterable[Built]) -> Iterator[Built]:
    """The results, until too many in a row have no answer.

    Raises:
        ChatError: then; what was answered is in the journal.
    """
    in_a_row = 0
    for built in results:
        unanswered = [rejection for rejection in built.rejections if rejection.reason == UNANSWERED]
        in_a_row = in_a_row + 1 if unanswered else 0
        if in_a_row == MOST_IN_A_ROW:
            raise ChatError(
                f"{MOST_IN_A_ROW} samples in a row got no answer; the last: {unanswered[0].detail}"
            )
        yield built
