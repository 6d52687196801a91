"""Wrong arguments in one line, with the nearest name, and commands whose options are dataclasses.

typer knows options as arguments of a function. A command here takes a dataclass for each group of options
that belong together; `with_options` spreads their fields out for typer.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import typer
from typer.core import TyperGroup

from vqathinker.cli.show import fail
from vqathinker.nearest import or_nearest

# of the click that typer brings or depends on
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """The commands, each of whose usage errors is one line."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  click's own
        """Read the arguments in front of the command."""
        with _one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  click's own
        """Read the command's arguments and run it."""
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    """Replace click's lines about a wrong argument by one of ours."""
    try:
        yield
    except USAGE_ERROR as error:
        context = getattr(error, "ctx", None)
        if context is None or type(error).__name__ == "NoArgsIsHelpError":
            raise
        see = f"`{context.command_path} --help` lists what there is"
        wrong = getattr(error, "option_name", None)
        if wrong is None:
            fail(f"{error.format_message().rstrip('.')}; {see}")  # type: ignore[attr-defined]
        known = [name for parameter in context.command.params for name in parameter.opts]
        fail(f"{context.info_name} has no option {wrong}{hint(wrong, known)}; {see}")


def hint(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, in words to go on with; nothing if none is near.

    >>> hint("--smaples", ["--samples", "--stride"]), hint("x", ["--samples"])
    (', did you mean --samples?', '')
    """
    return or_nearest(name, list(known), before=", ")


def nearest_path(path: str | os.PathLike[str]) -> str:
    """The existing path that was probably meant, in words; nothing if none is near."""
    there = Path(path)
    missing: list[str] = []
    while not there.exists() and there != there.parent:
        missing.insert(0, there.name)
        there = there.parent
    if not missing or not there.is_dir():
        return ""
    found = difflib.get_close_matches(missing[0], os.listdir(there), 1)
    return f", did you mean {there.joinpath(found[0], *missing[1:])}?" if found else ""


def require_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Leave unless an option has one of its values."""
    if value not in choices:
        meant = hint(value, choices)
        fail(f"unknown {option} {value!r}{meant or ','} choose one of {', '.join(choices)}")


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let typer see the fields of a command's dataclasses as options of their own."""
    groups: dict[str, Any] = {}
    parameters = []
    for name, kind in get_type_hints(command, include_extras=True).items():
        if name == "return":
            continue
        if not is_dataclass(kind):
            given = inspect.signature(command).parameters[name]
            parameters.append(given.replace(annotation=kind, kind=given.KEYWORD_ONLY))
            continue
        groups[name] = kind
        types = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=types[field.name],
            )
            for field in fields(kind)
        ]

    @wraps(command)
    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        command(**values)

    del run.__wrapped__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
