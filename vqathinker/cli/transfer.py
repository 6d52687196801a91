"""`vqathinker transfer`: the encoder of one checkpoint with the language model of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqathinker.cli.require import require_checkpoint, require_new
from vqathinker.cli.show import fail


def transfer(
    out: Annotated[Path, typer.Argument(help="Folder to write; it appears when it is complete.")],
    encoder: Annotated[
        str, typer.Option(help="Checkpoint whose vision tower and SlowFast are taken: folder or hub id.")
    ],
    decoder: Annotated[
        str, typer.Option(help="Checkpoint whose projectors and language model are taken, likewise.")
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")] = False,
) -> None:
    """Give another language model the vision encoder of a tuned checkpoint, as VITAL-Zero.

    Exit code 2: one of them is missing, or the two do not fit; nothing is written.
    """
    require_new(out, overwrite=overwrite)
    for name in (encoder, decoder):
        require_checkpoint(name)
    # torch takes seconds to import
    from vqathinker.checkpoints.transfer import transfer as put_together

    try:
        put_together(encoder, decoder, out, overwrite=overwrite)
    except (ValueError, OSError) as error:
        fail(error)
    typer.echo(f"wrote {out}")
