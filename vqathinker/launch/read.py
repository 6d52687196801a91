"""What a recipe does first: read its settings and refuse those that cannot be."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vqathinker.launch.build import check_plugins
from vqathinker.launch.checks import check
from vqathinker.launch.errors import WITHOUT_NOTES
from vqathinker.launch.help import show_help
from vqathinker.launch.recipes import STAGED, stage_file, stages
from vqathinker.launch.resume import notes
from vqathinker.launch.settings import Settings, merge

HELP = {"--help", "-h"}
OVERLAY = "laptop"  # no stage of its own
PRECISION = "ACCELERATE_MIXED_PRECISION"  # set by `accelerate launch`


def read_settings(
    recipe: str,
    default_config: Path,
    arguments: Sequence[str] | None = None,
    *,
    command: str | None = None,
    others: Sequence[str] = (),
) -> Settings:
    """Read the YAML and the command line, and check everything that takes no torch.

    Args:
        recipe: a key of `settings.RECIPES`.
        default_config: the YAML file used without `--config`; for a stage, which has to be named, the one
            that lies under it.
        arguments: in place of the command line's.
        command: how the program was called, for its help.
        others: options of the program that calls, which a wrong name may have meant.

    Raises:
        ValueError: naming everything that is wrong, a line each.
        OSError: if a file cannot be read.
        SystemExit: after the help.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if HELP & set(given):
        sys.stdout.write(show_help(recipe, command or f"python {sys.argv[0]}"))
        raise SystemExit(0)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # plug-ins beside the run; what is installed comes first
    if recipe != STAGED:
        settings = merge(recipe, default_config, given, others=others)
    else:
        if _first_stage(given) in {"", OVERLAY}:
            known = ", ".join(name for name in stages() if name != OVERLAY)
            raise ValueError(f"say which stage: --config FILE, or one of {known}; {OVERLAY} comes after it")
        settings = merge(recipe, None, given, shared=default_config, others=others, find=stage_file)
    # transformers takes the launch file's precision where neither bf16 nor fp16 is on
    if PRECISION in os.environ and settings["bf16"] is False and not settings["fp16"]:
        os.environ[PRECISION] = "no"
    check(settings)
    check_plugins(settings)
    if os.environ.get("RANK", "0") == "0" and WITHOUT_NOTES not in os.environ:
        for line in notes(settings):
            sys.stderr.write(f"note: {line}\n")
    return settings


def _first_stage(given: Sequence[str]) -> str:
    """What the first word after `--config` names, without folder and suffix; empty if there is none."""
    for word, following in zip(given, [*given[1:], ""], strict=True):
        option, _, value = word.partition("=")
        if option == "--config":
            return Path(value or following).stem
    return ""
