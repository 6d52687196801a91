"""A small world with known truth: clips, distortions, observers, and a base model that has no human scores.

    python -m recipes.world out/world

`make_world` writes the labelled sets, `make_base_set` the clips that the base model learns to describe.
"""

from .build import SCORED, SETS, SETS_FILE, VERSION, make_base_set, make_world

__all__ = ["SCORED", "SETS", "SETS_FILE", "VERSION", "make_base_set", "make_world"]
