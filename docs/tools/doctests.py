"""Shows the doctests of docstrings as code: without a section of their own they would read as quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^(?: *>>> .*\n?)(?:.*\S.*\n?)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Sets a fence around every run of lines that starts with `>>>`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = DOCTEST.sub(fenced, obj.docstring.value)


def fenced(found: re.Match[str]) -> str:
    """A run of lines as a block of Python."""
    return f"```pycon\n{found[0].rstrip()}\n```\n"
