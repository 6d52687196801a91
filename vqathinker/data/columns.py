"""Which column of a label file names the videos, which holds their MOS, and which the spread of the votes.

A name that is known or what a column holds decides; where two columns could be meant, nobody guesses.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from vqathinker.data.tables import MOS_NAMES, VIDEO_NAMES, Table, is_number, plain
from vqathinker.media.names import has_video_suffix

SPREAD_NAMES = frozenset({
    "std", "sd", "stddev", "stdev", "standarddeviation", "mosstd", "stdmos", "mossd", "sdmos",
    "mosstddev", "mosstdev", "scorestd", "stdscore", "sdfull",
})  # fmt: skip
# Labels of which the lower is the better.
DIFFERENCE = re.compile(r"d(ifferen(ce|tial))?(mos|meanopinionscore|score)\w*")
MOST = 0.5  # share of the values that tells what a column holds
SAY_WHICH = "say which is: --{0}-column ({0}_column), by its name or its number, e.g. --{0}-column 2"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Columns:
    """Positions from 0; `spread` is None where the file gives none."""

    video: int
    mos: int
    spread: int | None


def choose(table: Table, video_column: str | None = None, mos_column: str | None = None) -> Columns:
    """Find the columns.

    Args:
        table: at least one column.
        video_column: name of the column, or its number from 1; None looks for it.
        mos_column: likewise.

    Raises:
        ValueError: if there is none, or two that could be meant; names those there are and the options.
    """
    video = _named(table, video_column, "video") if video_column else _video_column(table)
    mos = _named(table, mos_column, "mos") if mos_column else _mos_column(table, video)
    if video == mos:
        raise ValueError(f"{table.where}: {table.name(mos)!r} cannot be both the video and its MOS")
    if DIFFERENCE.fullmatch(plain(table.name(mos))):
        logger.warning(
            "%s is taken as a MOS, higher is better; for differences turn them round: MOS = highest - DMOS",
            table.name(mos),
        )
    return Columns(video, mos, _spread_column(table, {video, mos}))


def _named(table: Table, wanted: str, what: str) -> int:
    """The column that an option names, by its name, its name in other letters, or its number."""
    names = [table.name(column) for column in range(table.num_columns)]
    if wanted in names:
        return names.index(wanted)
    alike = [column for column, name in enumerate(names) if plain(name) == plain(wanted)]
    if len(alike) == 1:
        return alike[0]
    if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    raise ValueError(f"{table.where}: {what}_column {wanted!r} is none of {table.listing()}")


def _video_column(table: Table) -> int:
    known = _with_names(table, VIDEO_NAMES)
    own = [column for column in known if plain(table.name(column)) == "video"]
    if len(own) == 1:
        return own[0]
    if len(known) == 1:
        return known[0]
    # of several names, or none that is known, what the columns hold decides
    files = [column for column in known or range(table.num_columns) if _holds_videos(table, column)]
    if len(files) == 1:
        return files[0]
    if table.header is None:
        words = [column for column in range(table.num_columns) if not _holds_numbers(table, column)]
        if len(words) == 1:
            return words[0]
    both = files or known
    if len(both) > 1:
        raise ValueError(f"{table.where}: {_either(table, both)} could name the videos; {_option('video')}")
    raise ValueError(f"{table.where}: no column names the videos among {table.listing()}; {_option('video')}")


def _mos_column(table: Table, video: int) -> int:
    # `video` (or LSVQ's `name`) and `mos` is the documented form, whatever stands beside it
    if table.header is not None and table.name(video) in {"video", "name"} and "mos" in table.header:
        return table.header.index("mos")
    others = [column for column in range(table.num_columns) if column != video]
    known = others if table.header is None else [c for c in _with_names(table, MOS_NAMES) if c != video]
    could_be = [column for column in known if _holds_numbers(table, column)]
    if not could_be and len(known) == 1:
        return known[0]  # a test set without its labels, or words: its first value says what is wrong
    if len(could_be) == 1:
        return could_be[0]
    if len(could_be) > 1:
        raise ValueError(f"{table.where}: {_either(table, could_be)} could be the MOS; {_option('mos')}")
    differences = [column for column in others if DIFFERENCE.fullmatch(plain(table.name(column)))]
    if differences:
        raise ValueError(
            f"{table.where}: {table.name(differences[0])} is a difference, where lower is better, and no MOS "
            f"is among {table.listing()}; turn it round first (MOS = highest - DMOS)"
        )
    raise ValueError(
        f"{table.where}: no column is a MOS by its name among {table.listing()}; {_option('mos')}"
    )


def _spread_column(table: Table, taken: set[int]) -> int | None:
    known = [column for column in _with_names(table, SPREAD_NAMES) if column not in taken]
    exact = [column for column in known if plain(table.name(column)) == "std"] or known
    return exact[0] if len(exact) == 1 else None


def _with_names(table: Table, names: frozenset[str]) -> list[int]:
    return [column for column, name in enumerate(table.header or []) if plain(name) in names]


def _holds_videos(table: Table, column: int) -> bool:
    values = [value for value in table.column(column) if value is not None and value != ""]
    return sum(isinstance(value, str) and has_video_suffix(value) for value in values) > MOST * len(values)


def _holds_numbers(table: Table, column: int) -> bool:
    values = [value for value in table.column(column) if value is not None and value != ""]
    return sum(map(is_number, values)) > MOST * len(values)


def _either(table: Table, columns: list[int]) -> str:
    first = table.rows[0] if table.header is None else None
    names = [f"{table.name(column)} ({first[column]})" if first else table.name(column) for column in columns]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _option(what: str) -> str:
    return SAY_WHICH.format(what)
