"""`vqathinker build`: training data from media, by a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqathinker.cli.label_options import LabelOptions
from vqathinker.cli.require import require_label_file
from vqathinker.cli.show import INTERRUPTED, fail
from vqathinker.cli.usage import nearest_path, with_options

if TYPE_CHECKING:
    from vqathinker.building.listing import Listing
    from vqathinker.building.recipe import Recipe
    from vqathinker.building.run import Build


@dataclass(frozen=True)
class WorkOptions:
    """How the work is done; only a file that takes too long changes the result."""

    workers: Annotated[int, typer.Option(min=1, help="Files read or rendered at the same time.")] = 2
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds to read or render a file.")] = 600
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run parts on this Ray cluster; auto for this machine's."),
    ] = None
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Run stages again that had other settings, and what follows.")
    ] = False


@with_options
def build(
    recipe: Annotated[str, typer.Argument(help="YAML of stages, or the name of a shipped one.")],
    media: Annotated[Path, typer.Option(help="Folder of videos and pictures.")],
    out: Annotated[Path, typer.Option(help="Folder of the result.")],
    labels: Annotated[
        Path | None, typer.Option(help="Label or sample file of the media; else all in the folder.")
    ] = None,
    laptop: Annotated[
        bool, typer.Option("--laptop", help="The recipe's variant without weights and servers.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STAGE.OPTION=VALUE", help="Another value; repeatable. Also seed=1."),
    ] = None,
    *,
    label_options: LabelOptions,
    work: WorkOptions,
) -> None:
    """Build training data: OUT/samples.jsonl, a manifest, a report with plots and a contact sheet.

    The same command again goes on where the last one stopped: nothing is rendered or asked twice.

    Exit code 0: built. 2: a wrong argument or recipe, a full disk, or a language model that is gone.
    130: interrupted.
    """
    from vqathinker.building.run import Build

    label_options.check()
    chosen = read_recipe(recipe, laptop=laptop, changes=set_ or [])
    with faults_in_a_line(out):
        listing = listing_of(media, out, labels, label_options)
        run(Build.of(chosen, listing, out, num_workers=work.workers, time_limit=work.time_limit), work)


def run(build: Build, work: WorkOptions) -> None:
    """Run a build under a progress bar, and write its report."""
    from vqathinker.building.report import write_report
    from vqathinker.cli.progress import make_progress

    for path, reason in list(build.listing.lost.items())[:10]:
        typer.echo(f"{path}: {reason}", err=True)
    build.out.mkdir(parents=True, exist_ok=True)
    build.check()
    run_parts = None
    if work.ray is not None:
        from vqathinker.building.cluster import on_cluster

        run_parts = on_cluster(work.ray)
    with make_progress("samples") as progress:

        def begin(name: str, total: int, done: int) -> Callable[[int], None]:
            bar = progress.add_task(name, total=total, completed=done)
            return lambda number: progress.advance(bar, number)

        samples = build.run(overwrite=work.overwrite, begin=begin, run_parts=run_parts)
    report = write_report(build, samples)
    parts = build.parts(build.recipe.names[-1])
    rejected = sum(build.parts(name).rejected().total() for name in ("media", *build.recipe.names))
    typer.echo(f"{sum(parts.sizes()):,} samples in {samples}, {rejected:,} rejections; {report}")


def read_recipe(recipe: str, *, laptop: bool, changes: list[str]) -> Recipe:
    """The recipe of a file or of a shipped one's name, or leave with what is wrong with it."""
    from vqathinker.building.recipe import Recipe
    from vqathinker.launch.recipes import recipe_folder
    from vqathinker.nearest import or_nearest

    path = Path(recipe)
    if not path.is_file():
        shipped = sorted(recipe_folder().glob("build/*.yaml"))
        names = [file.stem for file in shipped]
        if recipe not in names:
            fail(f"{recipe} is neither a file nor one of {', '.join(names)}{or_nearest(recipe, names)}")
        path = shipped[names.index(recipe)]
    try:
        return Recipe.from_file(path, laptop=laptop, changes=changes)
    except (ValueError, OSError) as error:
        fail(error)


@contextmanager
def faults_in_a_line(out: Path) -> Iterator[None]:
    """Leave with one line where a person can do something."""
    from vqathinker.chat import ChatError
    from vqathinker.types import RunStopped

    kept = f"what is done is kept in {out}, the same command goes on from there"
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {kept}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except (ChatError, RunStopped) as error:
        fail(f"{error}; {kept}")
    except OSError as error:
        fail(f"{error}; {kept}")
    except (ValueError, ImportError) as error:
        fail(error)


def listing_of(media: Path, out: Path, labels: Path | None, options: LabelOptions) -> Listing:
    """What a build starts from, or leave if there is no such folder or file."""
    from vqathinker.building.listing import AFFINE, list_labels, list_media

    if not media.is_dir():
        fail(f"{media} is not a folder{nearest_path(media)}")
    if labels is None:
        return list_media(media, out)
    require_label_file(labels)
    if options.scale not in {None, AFFINE}:
        fail(f"--scale {options.scale}: levels are fifths of the native range, which is mapped as a whole")
    return list_labels(labels, media, out, options.reading())
