"""`vqathinker plan`: memory and time of a recipe before anybody starts it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqathinker.cli.show import fail, print_table

if TYPE_CHECKING:
    from vqathinker.planning.hardware import GPU
    from vqathinker.planning.recipe import Launch, Planned
    from vqathinker.planning.run import Memory
    from vqathinker.planning.time import Assumptions

GIB = 2**30
DEFAULT_GPUS = 8
BANDWIDTH_USE = {"hf": 0.2, "colocate": 0.6, "server": 0.6}
SHOWN = 12  # ways to make a run fit
NOT_MEASURED = (
    "Weights, gradients, optimiser states, the reference and the key-value cache are arithmetic (exact). "
    "Activations are estimated, for responses that are all of the longest length; CUDA and fragmentation are "
    "an allowance. The times are estimates that no run on a GPU has verified."
)


def plan(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(help="Checkpoint folder, config.json, or a name such as InternVL3-8B.")
    ],
    gpu: Annotated[
        str, typer.Option(help='Type of the GPUs, such as h100 or "RTX 3090", or their memory: 24GiB.')
    ],
    config: Annotated[
        Path | None, typer.Option(help="The recipe's YAML; that of the GRPO recipe if not given.")
    ] = None,
    config_file: Annotated[
        str | None,
        typer.Option("--config_file", help="As for train: a file or zero2, ...; GPUs and ZeRO's stage."),
    ] = None,
    num_gpus: Annotated[int | None, typer.Option(min=1, help="All GPUs that train; 8 if not given.")] = None,
    zero: Annotated[
        int | None, typer.Option(min=0, max=3, help="DeepSpeed's stage; 2 if not given, 0 on one GPU.")
    ] = None,
    response_tokens: Annotated[int, typer.Option(min=1, help="Mean length of a response.")] = 250,
    videos: Annotated[int, typer.Option(min=1, help="Training videos; LSVQ's if not given.")] = 28056,
    mfu: Annotated[float, typer.Option(help="Share of the peak FLOP/s reached.")] = 0.4,
    bandwidth_use: Annotated[
        float | None, typer.Option(help="Share of the bandwidth reached in decoding; by engine if not given.")
    ] = None,
) -> None:
    """Print memory per GPU and time per step of a GRPO recipe; all further options are the recipe's own.

    Supervised training and stages of tuning have no plan.

    Exit code 0: it fits, with a margin for what is estimated. 1: it does not, or is tight. 2: a wrong
    argument, model or setting.
    """
    for name, share in (("--mfu", mfu), ("--bandwidth-use", bandwidth_use)):
        if share is not None and not 0 < share <= 1:
            fail(f"{name} {share}: expected a share above 0 and up to 1")
    from vqathinker.planning.hardware import find_gpu

    try:
        found = find_gpu(gpu)  # before the longer imports
        launch = _launch(config_file, num_gpus, zero)
        planned = _count(model, found, config, context.args, launch, response_tokens)
    except (ValueError, OSError) as error:
        fail(error)
    from vqathinker.planning.recipe import warnings_of
    from vqathinker.planning.remedies import verdict
    from vqathinker.planning.run import memory
    from vqathinker.planning.time import Assumptions

    run = planned.run
    _show_memory(model, planned, memory(run))
    if run.gpu.has_rates:
        assumed = Assumptions(mfu, bandwidth_use or BANDWIDTH_USE[run.engine])
        _show_time(planned, assumed, videos)
    else:
        typer.echo("Times need a GPU by name (--gpu), its memory says nothing about its speed")
    typer.echo(NOT_MEASURED)
    for line in warnings_of(planned):
        typer.echo(line)
    fits = verdict(run) == "fits"
    if fits:
        typer.echo("It fits.")
    else:
        _show_remedies(planned)
    raise typer.Exit(0 if fits else 1)


def _count(
    model: str, gpu: GPU, config: Path | None, options: list[str], launch: Launch, response: int
) -> Planned:
    """The run of the recipe's settings."""
    from vqathinker.launch.recipes import recipe_file
    from vqathinker.planning.recipe import plan

    recipe = config or recipe_file("grpo").with_suffix(".yaml")
    return plan(model, recipe, options, gpu=gpu, launch=launch, response=response)


def _launch(file: str | None, num_gpus: int | None, zero: int | None) -> Launch:
    """The file's settings, those given winning."""
    from dataclasses import replace

    from vqathinker.launch.recipes import launch_file
    from vqathinker.planning.recipe import Launch, read_launch

    if file is not None:
        launch = read_launch(launch_file(file))
        return replace(
            launch,
            num_gpus=num_gpus or launch.num_gpus,
            zero=launch.zero if zero is None else zero,
        )
    number = num_gpus or DEFAULT_GPUS
    return Launch(number, (2 if number > 1 else 0) if zero is None else zero)


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}" if size < 10 * GIB else f"{size / GIB:.1f}"


def _show_memory(name: str, planned: Planned, found: Memory) -> None:
    from rich.table import Table

    run = planned.run
    kind = f"ZeRO-{run.zero}" if run.zero else "no ZeRO"
    table = Table("GiB per GPU", title=f"{name} on {run.num_gpus} x {run.gpu.name}, {kind}")
    table.add_column("", justify="right")
    for part, size in found.held.items():
        table.add_row(part, _gib(size))
    for phase, parts in found.phases.items():
        table.add_section()
        for part, size in parts.items():
            table.add_row(f"{phase}: {part}", _gib(size))
        table.add_row(f"{phase}: with what is always held", _gib(found.phase_bytes(phase)))
    table.add_section()
    table.add_row("allowance for CUDA and fragmentation", _gib(found.allowance))
    table.add_row(f"largest ({found.largest_phase}), with the allowance", _gib(found.peak))
    table.add_row(f"memory of the {run.gpu.name}", _gib(run.gpu.memory))
    print_table(table)


def _show_time(planned: Planned, assumed: Assumptions, num_videos: int) -> None:
    from rich.table import Table

    from vqathinker.planning.time import phases, schedule

    run = planned.run
    told = planned.settings
    parts = phases(run, assumed)
    whole = schedule(
        run, parts, num_videos=num_videos, epochs=told["num_train_epochs"], max_steps=told["max_steps"]
    )
    table = Table("per generation and GPU", title="Estimated time")
    table.add_column("TFLOP", justify="right")
    table.add_column("seconds", justify="right")
    for name, phase in parts.items():
        table.add_row(name, f"{phase.flops / 1e12:.1f}", f"{phase.seconds:.1f}")
    print_table(table)
    prompt = "" if planned.checkpoint.is_counted else " (estimated)"
    typer.echo(
        f"{whole.step_seconds:.1f} s per step, {whole.videos_per_hour:.0f} videos per hour; "
        f"{whole.num_steps} steps take {whole.hours:.1f} hours\n"
        f"{whole.step_tokens:.0f} tokens per update, {run.model.prompt_length} of each prompt{prompt} and "
        f"{run.response} of each response (--response-tokens)\n"
        f"Assumed: {assumed.mfu:.0%} of {run.gpu.tflops:g} TFLOP/s (--mfu), {assumed.bandwidth_use:.0%} of "
        f"{run.gpu.bandwidth:g} GB/s while decoding (--bandwidth-use); without communication, decoding of "
        "videos, rewards and the optimiser's own time"
    )


def _show_remedies(planned: Planned) -> None:
    """Say what is wrong and which settings would help."""
    from vqathinker.planning.remedies import MARGIN, engine_fits, remedies, verdict
    from vqathinker.planning.run import memory

    run = planned.run
    found = memory(run)
    needed = f"{_gib(found.peak)} of {_gib(run.gpu.memory)} GiB"
    if run.engine == "colocate" and not engine_fits(run):
        typer.echo(
            f"vLLM's share of {run.utilization:g} does not hold its weights and one response; raise "
            "--vllm_gpu_memory_utilization"
        )
    if verdict(run) == "tight":
        typer.echo(f"Tight: {needed}; estimates of activations are off by up to {MARGIN:.0%}")
    elif found.peak > run.gpu.memory:
        typer.echo(f"Does not fit: {needed}")
    ways = remedies(planned)
    if not ways:
        typer.echo("No setting makes it fit: take more GPUs, larger ones, or a smaller model")
        return
    typer.echo("It would fit with:" if len(ways) == 1 else "It would fit with any one of these lines:")
    for labels, changed in ways[:SHOWN]:
        typer.echo(f"  {_gib(memory(changed).peak)} GiB: {', '.join(labels)}")
    if len(ways) > SHOWN:
        typer.echo(f"  ... and {len(ways) - SHOWN} more")
