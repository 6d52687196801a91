"""How a command ends where a setting or a file of the user is at fault: one message, status 2."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from vqathinker.types import RunStopped

USER_ERROR = 2
FAULTS = (ValueError, OSError, yaml.YAMLError, RunStopped)
TRACEBACK = "VQATHINKER_TRACEBACK"  # set it to see where an error comes from
WITHOUT_NOTES = "VQATHINKER_WITHOUT_NOTES"  # set by a launcher, whose processes say them


@contextmanager
def user_errors(*kinds: type[Exception]) -> Iterator[None]:
    """End the program with status 2 and one message where a setting or a file of the user is at fault.

    Args:
        kinds: the exceptions that say so; those of wrong values and files if omitted.
    """
    caught = kinds or FAULTS
    try:
        yield
    except caught as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
        rank = "" if alone else f"[rank {os.environ.get('RANK', '0')}] "
        sys.stderr.write(f"{rank}error: {error}\n")
        raise SystemExit(USER_ERROR) from error
