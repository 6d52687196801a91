"""`--help` of a recipe: our options first, then those of TRL and transformers, each with a line."""

from __future__ import annotations

import textwrap

from vqathinker.launch.effects import IGNORED
from vqathinker.launch.fields import UNKNOWN, Field
from vqathinker.launch.resume import OURS
from vqathinker.launch.settings import FIXED, RECIPES, options_of
from vqathinker.launch.values import expected

WIDTH = 100
INDENT = " " * 6
MODEL = "ModelConfig"
LONG = 12  # choices, beyond which they are not listed
USAGE = {
    "grpo": "Fine-tune with GRPO on labelled videos.",
    "sft": "Supervised fine-tuning on templated answers.",
    "tune": "A stage of supervised tuning: --config takes a file or one of the shipped stages.",
}


def show_help(recipe: str, command: str) -> str:
    """The whole text.

    Args:
        recipe: a key of `RECIPES`.
        command: how it was called.
    """
    options = options_of(recipe)
    ignored = set(IGNORED[recipe]) | set(FIXED[recipe])
    own: list[str] = []
    model: list[str] = []
    others: list[str] = []
    # ours first: TRL's are hundreds
    for name, field in options.items():
        if name in ignored:
            continue
        part = own if field.owner in OURS else model if field.owner == MODEL else others
        part.append(_entry(name, field))
    return "\n".join(
        [
            f"usage: {command} [--config FILE ...] [--OPTION VALUE ...]",
            "",
            USAGE[recipe],
            "Settings stand in the YAMLs of --config (the recipe's own if omitted); the later wins, and the",
            "command line over all.",
            "",
            "Options of vqathinker:",
            *own,
            "",
            "Model and LoRA:",
            *model,
            "",
            f"Options of TRL and transformers ({RECIPES[recipe][-2][1]}):",
            *others,
            "",
        ]
    )


def _entry(name: str, field: Field) -> str:
    kind = field.kind
    if kind.choices and len(kind.choices) <= LONG:
        takes = "|".join(map(str, kind.choices))
    elif kind.choices:
        takes = "NAME"
    else:
        takes = {"true or false": "true|false", "a whole number": "N", "a number": "X", "text": "TEXT"}.get(
            expected(kind), "VALUE ..." if kind.items is not None else "VALUE"
        )
    default = "" if field.default in (None, UNKNOWN, [], "") else f" [{_shown(field.default)}]"
    text = textwrap.shorten(field.help, 4 * WIDTH, placeholder=" ...")
    lines = textwrap.wrap(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    return "\n".join([f"  --{name} {takes}{default}", *lines])


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return " ".join(map(str, default)) if isinstance(default, list) else str(default)
