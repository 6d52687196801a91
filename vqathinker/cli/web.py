"""`vqathinker web`: a page in the browser for one checkpoint."""

from __future__ import annotations

import importlib.util
import socket
from dataclasses import dataclass
from typing import Annotated

import typer

from vqathinker.cli.options import CheckpointName, EngineOptions, ModeOptions
from vqathinker.cli.require import require_checkpoint, require_room
from vqathinker.cli.serve import LOOPBACK, reach
from vqathinker.cli.show import fail
from vqathinker.cli.usage import with_options

PORT = 7860


@dataclass(frozen=True)
class LimitOptions:
    """What visitors may ask for."""

    max_megabytes: Annotated[int, typer.Option(min=1, help="Largest file.")] = 500
    max_seconds: Annotated[float, typer.Option(min=1, help="Longest video.")] = 600
    max_samples: Annotated[int, typer.Option(min=1, help="Most responses to one question.")] = 16
    max_files: Annotated[int, typer.Option(min=1, help="Most files of a table.")] = 200


@with_options
def web(
    checkpoint: CheckpointName,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 for every machine that reaches this one.")
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = PORT,
    *,
    limits: LimitOptions,
    engine: EngineOptions,
) -> None:
    """Show a page in the browser: score a video, ask about it, compare two, score many.

    Only this machine reaches it unless --host says otherwise. One request is answered at a time, the others
    wait in a queue.

    Exit code 2: a wrong checkpoint, a port that is taken, or no Gradio.
    """
    engine.check(ModeOptions())
    require_port(host, port)
    if importlib.util.find_spec("gradio") is None:
        fail("Gradio is not installed: pip install 'vqathinker[web]'")
    folder = require_checkpoint(checkpoint)
    require_room(folder, engine.max_new_tokens)
    from vqathinker.web.desk import Desk, Limits
    from vqathinker.web.page import launch_options, make_page

    chosen = Limits(limits.max_megabytes, limits.max_seconds, limits.max_samples, files=limits.max_files)
    with engine.load(folder) as scorer:
        desk = Desk(scorer, chosen)
        page = make_page(desk)
        page.launch(server_name=host, server_port=port, prevent_thread_lock=True, **launch_options(desk))
        typer.echo(f"listening at http://{host}:{port}{reach(host)}", err=True)
        page.block_thread()


def require_port(host: str, port: int) -> None:
    """Leave if nobody can listen there, before a model is loaded."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        fail(f"--host {host} --port {port}: {error.strerror or error}")
