"""The name that was probably meant, for messages about a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(name: str, known: Sequence[str]) -> str:
    """The words to end an error message with: the known name that is most like a wrong one.

    >>> nearest("learning_rat", ["learning_rate", "beta"])
    'did you mean learning_rate?'
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else ""


def or_nearest(name: str, known: Sequence[str], before: str = "; ") -> str:
    """As `nearest`, to follow the words of a message after `before`; nothing where no name is near.

    >>> or_nearest("learning_rat", ["learning_rate"]), or_nearest("x", ["learning_rate"])
    ('; did you mean learning_rate?', '')
    """
    hint = nearest(name, known)
    return f"{before}{hint}" if hint else ""
