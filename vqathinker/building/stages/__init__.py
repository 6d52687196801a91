"""Stages: one file, one class, one key each. The arguments of a class are the options of a recipe."""

from __future__ import annotations

from collections.abc import Callable

from vqathinker.building.stage import EachStage, WholeStage
from vqathinker.building.stages.annotate import Annotate
from vqathinker.building.stages.build import BuildSamples
from vqathinker.building.stages.distort import Distort
from vqathinker.building.stages.judge import Judge
from vqathinker.building.stages.level import Level
from vqathinker.building.stages.mix import Mix
from vqathinker.building.stages.pair import MakePairs
from vqathinker.building.stages.select import Select

STAGES: dict[str, Callable[..., EachStage | WholeStage]] = {
    "select": Select,
    "distort": Distort,
    "annotate": Annotate,
    "level": Level,
    "pair": MakePairs,
    "build": BuildSamples,
    "judge": Judge,
    "mix": Mix,
}
