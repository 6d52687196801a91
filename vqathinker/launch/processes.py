"""How many processes a launcher started, and how many it was asked for."""

from __future__ import annotations

import os


def became_one() -> str:
    """A note where `accelerate launch` was asked for several processes and started one, else nothing.

    On a CPU it does so for every configuration but one. It then names a meeting place, as it does for several
    processes, but no process's rank.
    """
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    has_others = "MASTER_PORT" in os.environ
    if not is_launched or not has_others or "WORLD_SIZE" in os.environ:
        return ""
    return (
        "this is a single process, though accelerate was told a number of processes: on a CPU it starts "
        "several only with distributed_type: MULTI_GPU, as in recipes/accelerate/cpu_two.yaml"
    )
