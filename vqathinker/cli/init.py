"""`vqathinker init`: a checkpoint from published parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vqathinker.cli.convert import MOTIONS, TARGETS, require_source
from vqathinker.cli.options import WriteOptions
from vqathinker.cli.require import read_prompt, require_new, require_size, require_slowfast
from vqathinker.cli.show import fail
from vqathinker.cli.usage import require_choice, with_options


@with_options
def init(
    internvl: Annotated[
        str, typer.Option(help="A published InternVL3 or InternVL3.5: folder or hub id (-hf or not).")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the checkpoint to.")],
    slowfast: Annotated[
        Path | None,
        typer.Option(help="SLOWFAST_8x8_R50 of pytorchvideo: a file, or owner/name/FILE of the hub."),
    ] = None,
    motion: Annotated[str, typer.Option(help="Motion tokens: slowfast, fast or none.")] = "slowfast",
    prompt: Annotated[Path | None, typer.Option(help="Question (text) or whole wording (YAML).")] = None,
    num_frames: Annotated[int | None, typer.Option(min=1, help="Keyframes in training: 6.")] = None,
    frame_size: Annotated[int | None, typer.Option(help="Their side in pixels: 448.")] = None,
    scoring_num_frames: Annotated[int | None, typer.Option(min=1, help="Keyframes in scoring: 12.")] = None,
    scoring_frame_size: Annotated[int | None, typer.Option(help="Their side: 560.")] = None,
    *,
    writing: WriteOptions,
) -> None:
    """Put a checkpoint together from a published InternVL3 and a published SlowFast.

    Exit code 2: a part is missing or does not fit.
    """
    require_choice("--motion", motion, MOTIONS)
    writing.check()
    require_slowfast(slowfast)
    require_size("--frame-size", frame_size)
    require_size("--scoring-frame-size", scoring_frame_size)
    wording = read_prompt(prompt)
    require_new(out, overwrite=writing.overwrite)
    require_source(internvl, motion=motion, slowfast=slowfast, target=TARGETS[0])
    options = {
        "num_frames": num_frames,
        "frame_size": frame_size,
        "scoring_num_frames": scoring_num_frames,
        "scoring_frame_size": scoring_frame_size,
    }
    # torch takes seconds to import: everything above does without
    from vqathinker.checkpoints.assemble import assemble

    try:
        assemble(
            internvl,
            slowfast,
            out,
            motion=motion,
            prompt=wording,
            dtype=writing.dtype,
            overwrite=writing.overwrite,
            # what is not given stays the assembly's default
            **{name: value for name, value in options.items() if value is not None},
        )
    except (ValueError, OSError) as error:
        fail(error)
    typer.echo(f"wrote {out}")
