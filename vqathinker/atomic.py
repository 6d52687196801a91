"""Files that are there in one piece or not at all, whatever stops the process."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any
from uuid import uuid4


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place when the block ends without an error.

    Raises:
        OSError: if it cannot be put there.
    """
    path = Path(path)
    # of this call alone, on whichever machine, and hidden: who lists the folder meanwhile does not meet it
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what processes that were ended while they wrote a file have left beside it."""
    path = Path(path)
    for part in path.parent.glob(f".{escape(path.name)}.*"):
        part.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file; a name in it that is no text becomes escapes.

    Raises:
        OSError: if it cannot be written.
    """
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="", errors="backslashreplace")


def rewrite_whole(path: str | os.PathLike[str], text: str) -> None:
    """As `write_whole`, where nobody else writes: what a killed process has left beside the file goes.

    Raises:
        OSError: if it cannot be written.
    """
    remove_leftovers(path)
    write_whole(path, text)


def write_table(
    path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write a CSV, text in quotes, so that it may hold any end of a line.

    Raises:
        OSError: if it cannot be written.
    """
    form: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    with whole_file(path) as part, part.open("w", **form) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows(rows)
