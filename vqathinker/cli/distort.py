"""`vqathinker distort`: distorted copies of videos and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vqathinker.cli.build import WorkOptions, faults_in_a_line, run
from vqathinker.cli.show import fail
from vqathinker.cli.usage import nearest_path, with_options

WORK_FOLDER = ".build"
ALL = "all"


@with_options
def distort(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A video, a picture, or a folder of them.")],
    out: Annotated[Path, typer.Argument(help="Folder of the copies; a file for one copy of one file.")],
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="A distortion, spatial, temporal or all; repeatable. Drawn for each file if omitted."
        ),
    ] = None,
    level: Annotated[
        list[str] | None, typer.Option(help="From 1, or all; repeatable. Drawn if omitted.")
    ] = None,
    draw: Annotated[int, typer.Option(min=1, help="How many kinds are drawn for a file.")] = 1,
    local: Annotated[
        bool, typer.Option("--local", help="A quarter of the picture, of a video for 1 to 3 s, each drawn.")
    ] = False,
    stretch: Annotated[
        bool, typer.Option("--stretch", help="Values stretched before and after, as KADIS-700k does.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    *,
    work: WorkOptions,
) -> None:
    """Write copies: every named kind at every named level; of what is not named, one is drawn for each file.

    OUT/samples.jsonl says what was done to which, as a file of samples to be recognised. Videos are MP4 with
    frame times and sound as they were, pictures PNG. The same command again goes on where the last one
    stopped.

    Exit code 0: done. 2: a wrong argument, or a full disk. 130: interrupted.
    """
    if not source.exists():
        fail(f"{source}: no such file or folder{nearest_path(source)}")
    if source.resolve() == out.resolve():
        fail(f"{out} is IN itself: copies go to another folder")
    if source.is_file() and out.suffix and not out.is_dir():
        _one_file(source, out, kind, level, seed, stretch=stretch, local=local)
        return
    from vqathinker.building.listing import list_media
    from vqathinker.building.recipe import Recipe
    from vqathinker.building.run import Build

    options: dict[str, Any] = {"number": draw, "local": local}
    if kind:
        options["kinds"] = _kinds(kind, stretch=stretch)
    elif stretch:
        options["draw_from"] = _kinds(["spatial"], stretch=True)
    if level:
        options["levels"] = _levels(level)
    stages: dict[str, Any] = {}
    if local:  # how long a video is says when it can be distorted
        stages["looked"] = {"stage": "select", "seconds": None, "smallest": None, "largest": None}
    stages["distorted"] = {"stage": "distort", **options}
    # every copy has its line, that of a level which changes nothing too
    stages["samples"] = {"stage": "build", "builder": "recognition", "unseen": True}
    with faults_in_a_line(out):
        recipe = Recipe.from_dict({"about": "Distorted copies.", "seed": seed, "stages": stages})
        listing = list_media(source, out)
        build = Build(
            recipe,
            listing,
            out,
            work=out / WORK_FOLDER,
            media=out,
            by_stage=False,
            num_workers=work.workers,
            time_limit=work.time_limit,
        )
        run(build, work)


def _one_file(
    source: Path,
    out: Path,
    kind: list[str] | None,
    level: list[str] | None,
    seed: int,
    *,
    stretch: bool,
    local: bool,
) -> None:
    """One copy of one file, under the name that is given."""
    from vqathinker import plugins
    from vqathinker.distortions import DISTORTIONS, GROUP
    from vqathinker.distortions.copies import distort_file, suffix_of
    from vqathinker.media.container import VideoError
    from vqathinker.seeds import rng_of

    levels = _levels(level or [])
    kinds = _kinds(kind or [], stretch=stretch)
    if len(kinds) != 1 or not isinstance(levels, list) or len(levels) != 1:
        fail(f"one copy, {out}, needs one --kind and one --level; or give a folder")
    if local:
        fail("--local is for copies in a folder, whose samples say where and when")
    if out.suffix.lower() != suffix_of(source):
        fail(f"{out}: a distorted copy of {source.name} is written as {suffix_of(source)}")
    try:
        distortion: Any = plugins.create(kinds[0], DISTORTIONS, group=GROUP)
        distort_file(source, out, distortion, levels[0], rng_of(seed, source.name, levels[0]))
    except (ValueError, OSError, VideoError) as error:
        fail(error)
    typer.echo(f"wrote {out}: {distortion.severity(levels[0])} {' '.join(kind or [])}")


def _kinds(kinds: list[str], *, stretch: bool) -> list[Any]:
    """Kinds as the stage takes them."""
    from vqathinker.building.stages.distort import names_of

    names = [name for kind in kinds for name in names_of(kind)]
    return [{"name": name, "stretch": True} for name in names] if stretch else names


def _levels(levels: list[str]) -> list[int] | str:
    """Levels as the stage takes them, or leave if one is no number."""
    if levels == [ALL]:
        return ALL
    try:
        return [int(level) for level in levels]
    except ValueError:
        fail(f"--level {' '.join(levels)}: expected numbers from 1, or all")
