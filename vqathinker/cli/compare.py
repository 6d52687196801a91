"""`vqathinker compare`: which of two media is better and why, or a ranking of many."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqathinker.cli.options import CheckpointName, EngineOptions, ModeOptions
from vqathinker.cli.require import require_checkpoint, require_room
from vqathinker.cli.show import errors_in_a_line, fail, print_table, require_free
from vqathinker.cli.usage import nearest_path, require_choice, with_options
from vqathinker.scale import ALIKE

if TYPE_CHECKING:
    from vqathinker.scoring import Scorer
    from vqathinker.scoring.comparison import Votes

SCORES = "scores"
QUESTIONS = "questions"
BY = (SCORES, QUESTIONS)
LEAST = 2


@with_options
def compare(
    checkpoint: CheckpointName,
    media: Annotated[list[str] | None, typer.Argument(help="Two videos or pictures.")] = None,
    tournament: Annotated[
        Path | None, typer.Option(help="Folder whose media are ranked, instead of two.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="scores: sampled of each; questions: about two at a time, in both orders.")
    ] = SCORES,
    samples: Annotated[int, typer.Option(min=1, help="Rounds of votes.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    out: Annotated[Path | None, typer.Option(help="CSV of the ranking.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace it.")] = False,
    *,
    engine: EngineOptions,
) -> None:
    """Say which of two media is better, how surely and why; or rank a folder by Bradley–Terry.

    Votes by scores need a checkpoint that scores; votes by questions one that was taught to compare.

    Exit code 0: done. 1: a ranking without files that cannot be read. 2: a wrong argument, checkpoint or
    file, or no vote.
    """
    require_choice("--by", by, BY)
    engine.check(ModeOptions(samples=samples))
    if out is not None and tournament is None:
        fail("--out needs --tournament")
    require_free(out, overwrite=overwrite, option="--out")
    paths = _paths(media or [], tournament)
    folder = require_checkpoint(checkpoint)
    require_room(folder, engine.max_new_tokens)
    with errors_in_a_line(), engine.load(folder) as scorer:
        if tournament is None:
            _compare(scorer, paths, by, samples, seed)
        else:
            votes = _vote(scorer, paths, by, samples, seed)
            _rank(votes, out)
            raise typer.Exit(1 if votes.errors else 0)


def _paths(media: list[str], tournament: Path | None) -> list[str]:
    """The files, or leave if they are not there, or not two."""
    from vqathinker.media.search import find_videos

    if tournament is not None:
        if media:
            fail("--tournament ranks a folder: leave the files out")
        if not tournament.is_dir():
            fail(f"--tournament {tournament} is not a folder{nearest_path(tournament)}")
        listed = find_videos([str(tournament)], with_images=True)
        found = [path for path in listed if isinstance(path, str)]
        for fault in listed:
            if not isinstance(fault, str):
                typer.echo(str(fault), err=True)
        if len(found) < LEAST:
            fail(f"--tournament {tournament} holds {len(found)} media: at least {LEAST} are compared")
        return found
    if len(media) != LEAST:
        fail(f"{len(media)} files: two are compared, or a folder with --tournament")
    for path in media:
        if not Path(path).is_file():
            fail(f"{path}: no such file{nearest_path(path)}")
    return media


def _vote(scorer: Scorer, paths: list[str], by: str, samples: int, seed: int) -> Votes:
    from vqathinker.media.container import VideoError
    from vqathinker.scoring.comparison import vote_by_questions, vote_by_scores

    vote = vote_by_scores if by == SCORES else vote_by_questions
    try:
        return vote(scorer, paths, samples, seed)
    except VideoError as error:
        fail(error)


def _compare(scorer: Scorer, paths: list[str], by: str, samples: int, seed: int) -> None:
    """Print the preference for one of two, and why."""
    from vqathinker.scoring.comparison import reasons_for

    votes = _vote(scorer, paths, by, samples, seed)
    found = votes.preference()
    if math.isnan(found.value):
        fail("no answer chooses one of the two; try --by " + (QUESTIONS if by == SCORES else SCORES))
    first, second = paths
    won, alike, lost = votes.rounds()
    if found.value == ALIKE:
        typer.echo(f"{first} and {second} are alike")
    else:
        better, worse = (first, second) if found.value > ALIKE else (second, first)
        typer.echo(f"{better} is better than {worse}")
    between = "" if math.isnan(found.low) else f", 95 % interval {found.low:.2f} to {found.high:.2f}"
    typer.echo(
        f"{first} wins {won} rounds, {second} {lost}, {alike} alike: a share of {found.value:.2f}{between}"
    )
    if by == SCORES:
        for path, reason in zip(paths, votes.reasons, strict=True):
            typer.echo(f"{path}: {reason}")
    else:
        typer.echo(f"{votes.first_shown:.0%} of the votes are for the one shown first")
        for order, reason in zip((paths, paths[::-1]), reasons_for(scorer, *paths), strict=True):
            typer.echo(f"shown as {', '.join(order)}: {reason}")
    _say_invalid(votes)


def _rank(votes: Votes, out: Path | None) -> None:
    """Print a ranking, or leave without one."""
    from rich.table import Table

    from vqathinker.atomic import write_table

    try:
        standings = votes.ranking()
    except ValueError as error:
        fail(error)
    table = Table("rank", box=None)
    table.add_column("file", overflow="fold")
    for title in ("strength", "95 % interval", "votes won"):
        table.add_column(title, no_wrap=True)
    rows = []
    for rank, standing in enumerate(standings, 1):
        theta = standing.strength
        shown = "–" if math.isnan(theta.low) else f"{theta.low:.2f} to {theta.high:.2f}"
        table.add_row(str(rank), standing.name, f"{theta.value:.2f}", shown, f"{standing.wins:.0%}")
        rows.append([rank, standing.name, theta.value, theta.low, theta.high, standing.wins])
    print_table(table)
    if not math.isnan(votes.first_shown):
        typer.echo(f"{votes.first_shown:.0%} of the votes are for the one shown first")
    _say_invalid(votes)
    for path, reason in votes.errors.items():
        typer.echo(f"{path}: {reason}", err=True)
    unranked = set(votes.names) - {standing.name for standing in standings}
    for path in sorted(unranked):
        typer.echo(f"{path}: no vote, not ranked", err=True)
    if out is not None:
        columns = ["rank", "file", "strength", "low", "high", "wins"]
        write_table(out, columns, (dict(zip(columns, row, strict=True)) for row in rows))


def _say_invalid(votes: Votes) -> None:
    if votes.num_invalid:
        typer.echo(f"{votes.num_invalid} answers choose nothing and are left out", err=True)
