"""Scores for a labelled data set, with the field's metrics and everything that shaped them stored beside.

`evaluate` and `Evaluation` are loaded when they are asked for: torch and SciPy take seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vqathinker.evaluation.folder import Keeping as Keeping

if TYPE_CHECKING:
    from vqathinker.evaluation.evaluating import Evaluating as Evaluating
    from vqathinker.evaluation.evaluating import evaluate as evaluate
    from vqathinker.evaluation.summary import COLUMNS as COLUMNS
    from vqathinker.evaluation.summary import Evaluation as Evaluation

LATER = {"COLUMNS": "summary", "Evaluation": "summary", "Evaluating": "evaluating", "evaluate": "evaluating"}


def __getattr__(name: str) -> Any:  # noqa: ANN401  what a module's attribute may be
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{LATER[name]}"), name)
