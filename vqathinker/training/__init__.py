"""GRPO on videos over TRL: settings, packed groups, the trainer."""

from vqathinker.plugins import own_package

for name in ("rewards", "perturbations"):
    own_package(name)  # a user's rewards.py would otherwise fail somewhere below

from vqathinker.training.config import TrainingConfig as TrainingConfig  # noqa: E402
from vqathinker.training.trainer import VQAThinkerTrainer as VQAThinkerTrainer  # noqa: E402
