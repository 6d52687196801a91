"""python -m recipes.world out/world --seed 0: write the world's clips and labels, print the noise ceiling."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from . import SETS, make_base_set, make_world


def main(
    folder: Annotated[Path, typer.Argument(help="where it goes; what is there already stays")],
    seed: Annotated[int, typer.Option(help="another seed is another world")] = 0,
    workers: Annotated[int | None, typer.Option(help="processes; one per CPU if omitted")] = None,
    base: Annotated[bool, typer.Option(help="also write the clips that the base model learns from")] = False,
) -> None:
    """Write the labelled sets of the world."""
    ceilings = make_world(folder, seed=seed, num_workers=workers)
    if base:
        make_base_set(folder, seed=seed, num_workers=workers)
    shown = Table("set", "clips", "SRCC", "PLCC", title="noise ceiling: an ideal scorer against the MOS")
    for name, values in ceilings.items():
        shown.add_row(name, str(SETS[name].num_clips), f"{values['srcc']:.3f}", f"{values['plcc']:.3f}")
    Console().print(shown)


if __name__ == "__main__":
    typer.run(main)
