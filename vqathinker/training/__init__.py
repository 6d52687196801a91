"""GRPO on videos over TRL: settings, packed groups, the trainer. And the plan of a run, which takes no torch.

Both classes are loaded when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vqathinker.plugins import own_package

if TYPE_CHECKING:
    from vqathinker.training.grpo.config import TrainingConfig as TrainingConfig
    from vqathinker.training.grpo.trainer import VQAThinkerTrainer as VQAThinkerTrainer

for package in ("rewards", "perturbations"):
    own_package(package)  # a user's rewards.py would otherwise fail somewhere below


def __getattr__(name: str) -> Any:  # noqa: ANN401  what a module's attribute may be
    if name == "TrainingConfig":
        from vqathinker.training.grpo.config import TrainingConfig

        return TrainingConfig
    if name == "VQAThinkerTrainer":
        from vqathinker.training.grpo.trainer import VQAThinkerTrainer

        return VQAThinkerTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
