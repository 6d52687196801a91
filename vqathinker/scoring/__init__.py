"""Scores for videos, without labels: `Scorer.from_pretrained(DIR).score("clip.mp4")`.

`Scorer` is loaded when it is asked for: torch takes seconds to import.
"""

from typing import TYPE_CHECKING, Any

from vqathinker.scoring.mode import Mode as Mode
from vqathinker.scoring.result import Reply as Reply
from vqathinker.scoring.result import Score as Score
from vqathinker.scoring.task import Asked as Asked

if TYPE_CHECKING:
    from vqathinker.scoring.scorer import Scorer as Scorer


def __getattr__(name: str) -> Any:  # noqa: ANN401  what a module's attribute may be
    if name != "Scorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vqathinker.scoring.scorer import Scorer

    return Scorer
