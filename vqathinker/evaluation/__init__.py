"""Scores for a labelled data set, with the field's metrics and everything that shaped them stored beside.

`evaluate` and `Evaluation` are loaded when they are asked for: torch and SciPy take seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vqathinker.evaluation.folder import Keeping as Keeping
from vqathinker.journal import read_all as read_all

if TYPE_CHECKING:
    from vqathinker.evaluation.result import COLUMNS as COLUMNS
    from vqathinker.evaluation.result import Evaluation as Evaluation
    from vqathinker.evaluation.run import Evaluating as Evaluating
    from vqathinker.evaluation.run import evaluate as evaluate

LATER = {"COLUMNS": "result", "Evaluation": "result", "Evaluating": "run", "evaluate": "run"}


def __getattr__(name: str) -> Any:  # noqa: ANN401  what a module's attribute may be
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{LATER[name]}"), name)
