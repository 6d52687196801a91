"""`vqathinker merge`: an adapter and its base as one checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqathinker.checkpoints.folders import ADAPTER_FILE, base_folder, checkpoint_folder, is_adapter
from vqathinker.cli.options import WriteOptions
from vqathinker.cli.require import require_new
from vqathinker.cli.show import fail
from vqathinker.cli.usage import with_options


@with_options
def merge(
    adapter: Annotated[str, typer.Argument(help="Folder or hub id of an adapter that training wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; it appears when it is complete.")],
    base: Annotated[
        str | None, typer.Option(help="Folder or hub id of its base, if not where the adapter says.")
    ] = None,
    *,
    writing: WriteOptions,
) -> None:
    """Merge a LoRA adapter into its base, for vLLM, `convert`, or a new run.

    Exit code 2: it is no adapter, its base is missing, or the two do not fit; nothing is written.
    """
    writing.check()
    require_new(out, overwrite=writing.overwrite)
    folder = _adapter_folder(adapter, base)
    from vqathinker.checkpoints.assemble import merge_adapter

    try:
        merge_adapter(folder, out, base=base, dtype=writing.dtype, overwrite=writing.overwrite)
    except (ValueError, OSError) as error:
        fail(error)
    typer.echo(f"wrote {out}")


def _adapter_folder(adapter: str, base: str | None) -> Path:
    """The folder of an adapter whose base is there; leave if there is none."""
    try:
        folder = checkpoint_folder(adapter)
        if not is_adapter(folder):
            fail(f"{folder} is no adapter (no {ADAPTER_FILE}); there is nothing to merge")
        base_folder(folder, base)
    except ValueError as error:
        fail(error)
    return folder
