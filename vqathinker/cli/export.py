"""`vqathinker export`: samples as conversations for other trainers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vqathinker.cli.require import require_label_file
from vqathinker.cli.show import fail
from vqathinker.cli.usage import require_choice
from vqathinker.published import FORMS


def export(
    samples: Annotated[Path, typer.Argument(help="File of samples.")],
    out: Annotated[Path, typer.Argument(help="File to write; JSON, for swift JSON Lines.")],
    form: Annotated[str, typer.Option(help="llava, llama-factory or swift.")] = "llama-factory",
    media: Annotated[str, typer.Option(help="Folder to stand before the paths.")] = "",
) -> None:
    """Write samples as conversations of one turn for LLaVA, LLaMA-Factory or ms-swift.

    Exit code 2: a wrong argument, or a file that cannot be read or written.
    """
    from vqathinker.atomic import write_whole
    from vqathinker.published import export as exported
    from vqathinker.published import is_exported
    from vqathinker.samples import read_samples

    require_choice("--form", form, FORMS)
    require_label_file(samples)
    try:
        found = read_samples(samples)
        entries = list(exported(found, form, root=media))
        lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
        text = "\n".join(lines) + "\n" if form == "swift" else "[\n" + ",\n".join(lines) + "\n]\n"
        write_whole(out, text)
    except (ValueError, OSError) as error:
        fail(error)
    left_out = sum(not is_exported(sample) for sample in found)
    said = f"; {left_out} without an answer or of two media are left out" if left_out else ""
    typer.echo(f"{len(entries)} samples in {out}{said}")
