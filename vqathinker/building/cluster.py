"""Parts of a stage on a cluster, by Ray Data: the same files as in one process, written by other machines.

All machines need this package and see the same folders. A part whose machine is lost is run again elsewhere.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vqathinker.building.listing import Listing
from vqathinker.building.recipe import Plan
from vqathinker.building.run import Advance, Build, PartRunner, RunParts
from vqathinker.chat import ChatError

if TYPE_CHECKING:
    from types import ModuleType

AUTO = "auto"
EXPECTED = (ChatError, ValueError, OSError, ImportError)  # what a user can do something about


def on_cluster(address: str) -> RunParts:
    """What runs the parts of a stage on a cluster.

    Args:
        address: of its head; "auto" for the one that this machine is part of, or else one of its own.

    Raises:
        ImportError: if Ray is not installed.
        ConnectionError: if there is no cluster at the address.
    """
    ray = connected(address)

    def run_parts(build: Build, plan: Plan, missing: list[int], advance: Advance) -> None:
        # the listing may be large, and no part needs it
        there = replace(
            build,
            listing=Listing([], {}),
            out=build.out.resolve(),
            work=build.work.resolve(),
            media=build.media.resolve(),
        )
        # a stage reads with as many processes as it has workers
        num_cpus = build.num_workers
        most = max(int(ray.cluster_resources().get("CPU", 1)) // num_cpus, 1)
        rows = ray.data.from_items([{"part": number} for number in missing], override_num_blocks=len(missing))
        done = rows.map(
            RemoteParts,
            fn_constructor_args=(there, plan),
            num_cpus=num_cpus,
            num_gpus=plan.options.get("num_gpus", 0),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(most, len(missing))),
        )
        # an error comes as a value: raised there it would end as one of Ray's, without its message
        for row in done.iter_rows():
            if row["error"]:
                raise ValueError(f"stage {plan.name!r}, part {row['part']}: {row['error']}")
            advance(row["samples"])

    return run_parts


class RemoteParts:
    """A stage on another machine, made there once.

    Args:
        build: what it belongs to.
        plan: of the stage.
    """

    def __init__(self, build: Build, plan: Plan) -> None:
        self.runner = PartRunner(build, plan)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Run a part; tells how many samples it read, and what went wrong."""
        number = int(row["part"])
        counted: list[int] = []
        error = ""
        try:
            self.runner(number, counted.append)
        except EXPECTED as problem:
            error = str(problem) or type(problem).__name__
        return {"part": number, "samples": sum(counted), "error": error}


def connected(address: str) -> ModuleType:
    """Ray, connected to a cluster."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ImportError("clusters are reached by Ray: pip install 'vqathinker[scale]'") from error
    if not ray.is_initialized():
        # the command has a bar of its own
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError:
            if address != AUTO:
                raise
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
    module: ModuleType = ray
    return module
