"""Any program that scores files."""

from __future__ import annotations

import math
import os
import signal
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
        if not paths:
            return []
        process = subprocess.Popen(
            self.command,
            shell=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            written, said = process.communicate("".join(f"{path}\n" for path in paths), self.time_limit)
        except subprocess.TimeoutExpired:
            raise ValueError(f"command {self.command!r} took longer than {self.time_limit:g} s") from None
        finally:  # with all that the shell has started, also where someone interrupts
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        if process.returncode:
            why = f": {said.strip().splitlines()[-1]}" if said.strip() else ""
            raise ValueError(f"command {self.command!r} ended with code {process.returncode}{why}")
        lines = written.removesuffix("\n").split("\n")
        if len(lines) != len(paths):
            raise ValueError(f"command {self.command!r} wrote {len(lines)} lines for {len(paths)} paths")
        try:
            return [self.sign * float(line) if line.strip() else math.nan for line in lines]
        except ValueError as error:
            raise ValueError(f"command {self.command!r}: {error}") from None
