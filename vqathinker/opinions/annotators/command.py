"""Any program that scores files."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence


class CommandAnnotator:
    """A shell command: paths on its standard input, a line each; scores on its standard output, likewise.

    A line that says `nan` or nothing is a medium without a score.

    Args:
        command: the command.
        time_limit: seconds for all paths of a call.
        less_is_better: whether lower scores are better.
    """

    def __init__(self, command: str, *, time_limit: float = 3600, less_is_better: bool = False) -> None:
        self.command = command
        self.time_limit = time_limit
        self.sign = -1 if less_is_better else 1

    def __call__(self, paths: Sequence[str]) -> list[float]:
        """The scores of N files.

        Raises:
            ValueError: if the command fails, takes too long, or does not write N numbers.
        """
        try:
            done = subprocess.run(
                self.command,
                shell=True,
                input="".join(f"{path}\n" for path in paths),
                capture_output=True,
                text=True,
                timeout=self.time_limit,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"command {self.command!r} took longer than {self.time_limit:g} s") from None
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines()
            why = f": {said[-1]}" if said else ""
            raise ValueError(f"command {self.command!r} ended with code {error.returncode}{why}") from None
        lines = done.stdout.rstrip("\n").split("\n")
        if len(lines) != len(paths):
            raise ValueError(f"command {self.command!r} wrote {len(lines)} lines for {len(paths)} paths")
        try:
            return [self.sign * float(line) if line.strip() else math.nan for line in lines]
        except ValueError as error:
            raise ValueError(f"command {self.command!r}: {error}") from None
