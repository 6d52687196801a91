"""GRPO and supervised training on videos, over TRL.

Both classes are loaded when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vqathinker.plugins import own_package

if TYPE_CHECKING:
    from vqathinker.training.grpo.config import TrainingConfig as TrainingConfig
    from vqathinker.training.grpo.trainer import VQAThinkerTrainer as VQAThinkerTrainer

# a user's rewards.py would otherwise fail somewhere below
own_package("rewards")
own_package("perturbations")


def __getattr__(name: str) -> Any:  # noqa: ANN401  what a module's attribute may be
    if name == "TrainingConfig":
        from vqathinker.training.grpo.config import TrainingConfig

        return TrainingConfig
    if name == "VQAThinkerTrainer":
        from vqathinker.training.grpo.trainer import VQAThinkerTrainer

        return VQAThinkerTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
