"""One thing that `vqathinker doctor` has looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: ok; note, which something optional may fail for; fails, which something needed does.
        value: what was found.
        way_out: what to do about it.
    """

    name: str
    state: str
    value: str
    way_out: str = ""
