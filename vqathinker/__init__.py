"""Reinforcement fine-tuning of video language models that reason about video quality and score it.

Importing the package loads its ground floor only (numpy, scipy); torch comes with the floors above, and with
`Scorer`, which is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vqathinker.answers import Answer as Answer
from vqathinker.answers import parse as parse
from vqathinker.types import Perturbation as Perturbation
from vqathinker.types import Reward as Reward
from vqathinker.types import RolloutBatch as RolloutBatch

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vqathinker.scoring import Scorer as Scorer


def __getattr__(name: str) -> Any:  # noqa: ANN401  what a module's attribute may be
    if name != "Scorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vqathinker.scoring import Scorer

    return Scorer
