"""From what a user wrote, words on the command line or values in a YAML, to what an option takes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from vqathinker.launch.fields import Field, Kind
from vqathinker.nearest import or_nearest

TRUE = {"true", "yes", "t", "y", "1"}
FALSE = {"false", "no", "f", "n", "0"}
NOTHING = {"none", "null"}


def from_words(field: Field, words: Sequence[str]) -> Any:  # noqa: ANN401  any option's value
    """The value that the words after an option stand for.

    Raises:
        ValueError: saying what the option takes.
    """
    kind = field.kind
    if not words:
        if bool in kind.scalars:
            return True
        if kind.items is not None:  # --perturbations
            return []
        raise ValueError(f"expected {expected(kind)} after it")
    if kind.items is not None and (len(words) > 1 or not kind.scalars):
        return [_from_text(Kind((kind.items,)), word) for word in words if word]
    if len(words) > 1:
        raise ValueError(f"takes one value, got {' '.join(words)}")
    return _from_text(kind, words[0])


def from_yaml(field: Field, value: object) -> Any:  # noqa: ANN401  any option's value
    """A YAML's value as the option takes it: numbers that YAML reads as text (1e-6) become numbers.

    Raises:
        ValueError: saying what the option takes.
    """
    kind = field.kind
    if value is None:
        if kind.is_optional or field.default is None:
            return None
        if kind.items is not None:
            return []
        raise ValueError(f"is empty, expected {expected(kind)}")
    if isinstance(value, dict):
        if kind.is_mapping:
            return value
        if kind.items is str and not kind.scalars:  # one plug-in with its arguments
            return [value]
    elif isinstance(value, list):
        if kind.items is not None:
            item = Field(field.name, Kind((kind.items,)), None, "", field.owner)
            return [part if isinstance(part, dict) else from_yaml(item, part) for part in value]
    elif kind.items is not None and not kind.scalars:
        return [from_yaml(Field(field.name, Kind((kind.items,)), None, "", field.owner), value)]
    else:
        return _from_scalar(kind, value)
    raise ValueError(f"is {value!r}, expected {expected(kind)}")


def expected(kind: Kind) -> str:
    """What an option takes, in words.

    >>> expected(Kind((int,), is_optional=True))
    'a whole number'
    """
    if kind.choices:
        return f"one of {', '.join(map(str, kind.choices))}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    parts = [names[scalar] for scalar in kind.scalars]
    if kind.items is not None:
        parts.append("one or more values")
    if kind.is_mapping:
        parts.append("a mapping (JSON on the command line)")
    return " or ".join(parts)


def _from_scalar(kind: Kind, value: object) -> Any:  # noqa: ANN401
    """A single value of a YAML."""
    if isinstance(value, str):
        return _from_text(kind, value)
    if isinstance(value, bool):
        if bool in kind.scalars:
            return value
        if kind.choices and not value:  # YAML reads `no` as false
            return _from_text(kind, "no")
        if str in kind.scalars and not kind.choices:
            return value
    elif isinstance(value, int | float):
        if float in kind.scalars or (int in kind.scalars and float(value).is_integer()):
            return value if float in kind.scalars else int(value)
        if str in kind.scalars:
            return _from_text(kind, str(value))
    raise ValueError(f"is {value!r}, expected {expected(kind)}")


def _from_text(kind: Kind, text: str) -> Any:  # noqa: ANN401
    """The first reading of a text that the option takes."""
    if kind.choices:
        if text in kind.choices:
            return text
        hint = or_nearest(text, [str(choice) for choice in kind.choices])
        raise ValueError(f"is {text!r}, expected {expected(kind)}{hint}")
    word = text.lower()
    if bool in kind.scalars and word in TRUE | FALSE:
        return word in TRUE
    if kind.is_optional and word in NOTHING and str not in kind.scalars:
        return None
    if kind.is_mapping and text.startswith("{"):
        return _mapping(text)
    number = _number(text)
    if number is not None and int in kind.scalars and isinstance(number, int):
        return number
    if number is not None and float in kind.scalars:
        return float(number)
    if str in kind.scalars:
        return text
    raise ValueError(f"is {text!r}, expected {expected(kind)}")


def _number(text: str) -> int | float | None:
    """A finite number, None if the text is none."""
    try:
        return int(text)
    except ValueError:  # a fraction, or no number
        pass
    try:
        value = float(text)
    except ValueError:  # no number
        return None
    return value if math.isfinite(value) else None


def _mapping(text: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error}") from error
