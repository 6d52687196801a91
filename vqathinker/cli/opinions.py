"""`vqathinker opinions`: what annotators think of media, as scores and levels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vqathinker.cli.build import WorkOptions, faults_in_a_line, listing_of, run
from vqathinker.cli.label_options import LabelOptions
from vqathinker.cli.usage import with_options


@with_options
def opinions(
    media: Annotated[Path, typer.Argument(help="Folder of videos and pictures.")],
    out: Annotated[Path, typer.Option(help="Folder of the result.")],
    annotator: Annotated[
        list[str],
        typer.Option(
            help="measures, csv:FILE, pyiqa:NAME, checkpoint:DIR, command:LINE or module:Name; repeatable."
        ),
    ],
    labels: Annotated[
        Path | None, typer.Option(help="Labels of the media, to which mappings are fitted.")
    ] = None,
    mappings: Annotated[
        Path | None,
        typer.Option(help="Mappings that another call has fitted: OUT/stages/scores/mappings.json."),
    ] = None,
    of: Annotated[
        list[str] | None,
        typer.Option(help="An opinion that counts for the score; repeatable. All if omitted."),
    ] = None,
    axis: Annotated[str, typer.Option(help="Levels at the ends of the scale, or intervals.")] = "intervals",
    *,
    label_options: LabelOptions,
    work: WorkOptions,
) -> None:
    """Write OUT/samples.jsonl: each medium with its opinions, score, spread and distribution over levels.

    Scores of different annotators are made comparable by mappings to mean opinion scores, or by their ranges.

    Exit code 0: done. 2: a wrong argument, or a full disk. 130: interrupted.
    """
    from vqathinker.building.recipe import Recipe
    from vqathinker.building.run import Build

    label_options.check()
    level: dict[str, Any] = {"stage": "level", "axis": axis, "fit": labels is not None}
    if mappings is not None:
        level["mappings"] = str(mappings)
    if of:
        level["opinions"] = of
    stages = {"opinions": {"stage": "annotate", "annotators": annotator}, "scores": level}
    with faults_in_a_line(out):
        recipe = Recipe.from_dict({"about": "Opinions.", "stages": stages})
        listing = listing_of(media, out, labels, label_options)
        run(Build.of(recipe, listing, out, num_workers=work.workers, time_limit=work.time_limit), work)
