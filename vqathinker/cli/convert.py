"""`vqathinker convert`: checkpoints of other layouts into ours and back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqathinker.checkpoints.folders import CONFIG_FILE, HOW_TO_MERGE, checkpoint_folder, is_adapter
from vqathinker.cli.require import read_json, read_prompt, require_new, require_slowfast
from vqathinker.cli.show import fail, print_table, progress_bar, require_free
from vqathinker.cli.usage import require_choice

if TYPE_CHECKING:
    from vqathinker.checkpoints.tensors import Conversion

TARGETS = ("vqathinker", "internvl-hf")
MOTIONS = ("slowfast", "fast", "none")


def convert(
    source: Annotated[
        str, typer.Argument(help="Folder or hub id: the authors' VQAThinker or InternVL3, -hf, or ours.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write; it appears when it is complete.")],
    target: Annotated[
        str, typer.Option("--to", help="vqathinker, or internvl-hf: without motion.")
    ] = TARGETS[0],
    slowfast: Annotated[
        Path | None,
        typer.Option(help="SLOWFAST_8x8_R50, for a source without motion: a file, here or on the hub."),
    ] = None,
    motion: Annotated[
        str | None,
        typer.Option(help="For a source without motion: slowfast if omitted, fast, or none to stay so."),
    ] = None,
    prompt: Annotated[Path | None, typer.Option(help="Question (text) or whole wording (YAML).")] = None,
    report: Annotated[
        Path | None, typer.Option(help="JSON file for every tensor, also of a refusal.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier conversion wrote, and its report.")
    ] = False,
) -> None:
    """Convert a checkpoint: the same logits under other names.

    Exit code 2: the source cannot be converted whole; nothing is written but the report.
    """
    require_choice("--to", target, TARGETS)
    require_free(report, overwrite=overwrite)
    if motion is not None:
        require_choice("--motion", motion, MOTIONS)
    require_slowfast(slowfast)
    wording = read_prompt(prompt)
    require_new(out, overwrite=overwrite)
    require_source(source, motion=motion, slowfast=slowfast, target=target)
    # torch takes seconds to import: everything above does without
    from vqathinker.checkpoints.convert import convert as convert_checkpoint
    from vqathinker.checkpoints.tensors import ConversionError

    try:
        with progress_bar("shards") as progress:
            task = progress.add_task("writing shards", total=None, visible=False)
            result = convert_checkpoint(
                source,
                out,
                target=target,
                motion=motion,
                slowfast=slowfast,
                prompt=wording,
                overwrite=overwrite,
                on_shard=lambda done, total: progress.update(task, completed=done, total=total, visible=True),
            )
        if report is not None:
            result.write(report)
    except ConversionError as error:
        # a refusal is when the report is needed most
        _show(error.report)
        if report is not None:
            error.report.write(report)
        fail(error if report is not None else f"{error}; --report FILE lists all")
    except (ValueError, OSError) as error:
        fail(error)
    _show(result)
    typer.echo(f"wrote {out}")


def require_source(source: str, *, motion: str | None, slowfast: Path | None, target: str) -> None:
    """Leave if there is no such source, or it lacks the motion asked for; torch is not needed for that."""
    try:
        folder = checkpoint_folder(source)
    except ValueError as error:
        fail(error)
    if is_adapter(folder):
        how = HOW_TO_MERGE.format(adapter=folder)
        fail(f"{folder} holds an adapter; merge it into its base first ({how})")
    if not (folder / CONFIG_FILE).is_file():
        fail(f"{folder} has no {CONFIG_FILE}, it is not a checkpoint")
    is_without = read_json(folder / CONFIG_FILE).get("model_type") == "internvl" and target == TARGETS[0]
    if is_without and slowfast is None and motion != "none":
        fail(
            f"{source} has no motion branch, and motion={motion or MOTIONS[0]!r} needs a SlowFast "
            "checkpoint: give SLOWFAST_8x8_R50.pyth (--slowfast), or leave motion out (--motion none)"
        )


def _show(report: Conversion) -> None:
    """Print how many tensors of each part of the source were used, and what became of the others."""
    from rich.table import Table

    table = Table("part", title=f"{report.layout} → {report.target}")
    table.add_column("tensors", justify="right")
    for part, number in Counter(name.split(".")[0] for name in report.used).items():
        table.add_row(part, str(number))
    table.add_section()
    for kind in ("left_out", "added", "unused", "missing", "mismatched"):
        table.add_row(kind.replace("_", " "), str(len(getattr(report, kind))))
    print_table(table)
