"""Temporal perturbations: one file, one class, one key each.

A perturbation maps a number of frames and a random generator to indices into these frames. This package knows
NumPy and nothing else; recipes build perturbations by name with `vqathinker.plugins` from this dict.
"""

from __future__ import annotations

from collections.abc import Callable

from perturbations.draw import Perturbation as Perturbation
from perturbations.draw import draw as draw
from perturbations.duplicate import Duplicate as Duplicate
from perturbations.global_shuffle import GlobalShuffle as GlobalShuffle
from perturbations.jitter import Jitter as Jitter
from perturbations.local_shuffle import LocalShuffle as LocalShuffle
from perturbations.random_drop import RandomDrop as RandomDrop
from perturbations.reverse import Reverse as Reverse

GROUP = "vqathinker.perturbations"
PERTURBATIONS: dict[str, Callable[..., Perturbation]] = {
    "global_shuffle": GlobalShuffle,
    "local_shuffle": LocalShuffle,
    "reverse": Reverse,
    "jitter": Jitter,
    "duplicate": Duplicate,
    "random_drop": RandomDrop,
}
