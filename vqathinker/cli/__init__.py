"""What people call: `vqathinker COMMAND`.

Commands import what they need when they run, so that the help is there at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from vqathinker import __version__
from vqathinker.cli.ask_set import ask_set
from vqathinker.cli.build import build
from vqathinker.cli.compare import compare
from vqathinker.cli.convert import convert
from vqathinker.cli.datasets import datasets
from vqathinker.cli.distort import distort
from vqathinker.cli.doctor import doctor
from vqathinker.cli.evaluate import evaluate
from vqathinker.cli.export import export
from vqathinker.cli.init import init
from vqathinker.cli.merge import merge
from vqathinker.cli.opinions import opinions
from vqathinker.cli.plan import plan
from vqathinker.cli.prepare import prepare
from vqathinker.cli.report import report
from vqathinker.cli.score import score
from vqathinker.cli.serve import serve
from vqathinker.cli.train import train
from vqathinker.cli.transfer import transfer
from vqathinker.cli.usage import Commands
from vqathinker.cli.web import web

app = typer.Typer(
    cls=Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_show_locals=False
)


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        typer.echo(f"vqathinker {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Print the version.")
    ] = False,
) -> None:
    """Train video language models that reason about video quality, and score videos with them."""


app.command()(prepare)
app.command()(distort)
app.command()(opinions)
app.command()(build)
app.command()(export)
app.command()(init)
app.command()(convert)
app.command()(merge)
app.command()(transfer)
app.command()(score)
app.command()(evaluate)
app.command()(ask_set)
app.command()(compare)
app.command()(datasets)
app.command()(report)
app.command()(doctor)
app.command()(web)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)(train)
for command in (plan, serve):
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(command)
