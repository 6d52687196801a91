"""The name that was probably meant, for messages about a wrong one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


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


def alike(name: str, known: Mapping[str, T]) -> T | None:
    """What has a name, whatever its capitals, hyphens, underscores and blanks; None if nothing has.

    >>> alike("konvid 1K", {"KoNViD-1k": 1200}), alike("mine", {"KoNViD-1k": 1200})
    (1200, None)
    """
    return {_plain(one): value for one, value in known.items()}.get(_plain(name))


def no_data_set(name: str, known: Iterable[str]) -> str:
    """The message about a data set that there is not.

    >>> no_data_set("konvid", ["KoNViD-1k"])
    "no data set 'konvid', did you mean KoNViD-1k? choose one of KoNViD-1k"
    """
    names = {_plain(one): one for one in known}
    near = difflib.get_close_matches(_plain(name), names, n=1)
    meant = f", did you mean {names[near[0]]}?" if near else ";"
    return f"no data set {name!r}{meant} choose one of {', '.join(names.values())}"


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())
