"""The shards of a command as tasks of a Ray cluster; one that is lost with its machine goes on elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from vqathinker.cli.show import fail

OWN = ("--ray", "--gpus-per-shard")  # options that a shard does not get
TRIES = 3  # of a shard whose machine is lost


def run_shards(address: str, num_shards: int | None, gpus: float) -> NoReturn:
    """Run this command once for each shard, and leave with the worst of their exit codes.

    Args:
        address: of the cluster; see `building.cluster`.
        num_shards: how many; one for each GPU of the cluster, or each CPU, if omitted.
        gpus: that a shard needs.
    """
    from vqathinker.building.cluster import connected

    try:
        ray = connected(address)
    except (ImportError, ConnectionError) as error:
        fail(error)
    there = ray.cluster_resources()
    number = num_shards or int(there["GPU"] / gpus if gpus else there["CPU"])
    words = without(sys.argv[1:], OWN)
    task = ray.remote(num_gpus=gpus, max_retries=TRIES)(run_one)
    shared = ["--num-shards", str(number)] if num_shards is None else []
    running = [task.remote([*words, *shared, "--shard", str(shard)], os.getcwd()) for shard in range(number)]
    codes = []
    while running:
        (done,), running = ray.wait(running)
        code, said = ray.get(done)
        typer.echo(said.rstrip(), err=bool(code))
        codes.append(code)
    raise typer.Exit(max(codes))


def run_one(words: Sequence[str], folder: str) -> tuple[int, str]:
    """Run a command of ours in a folder: its exit code, and what it said last."""
    command = [sys.executable, "-m", "vqathinker.cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    lines = (done.stdout or done.stderr if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode, "\n".join(lines[-1:])


def without(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """A command's words without some options and their values.

    >>> without(["score", "m", "--ray", "auto", "--out=o", "--gpus-per-shard=1"], OWN)
    ['score', 'm', '--out=o']
    """
    kept: list[str] = []
    is_value = False
    for word in words:
        name, has_value, _ = word.partition("=")
        if not is_value and name not in options:
            kept.append(word)
        is_value = not is_value and name in options and not has_value
    return kept
