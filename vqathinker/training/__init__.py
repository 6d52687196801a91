"""GRPO on videos over TRL: settings, packed groups, the trainer."""

from vqathinker.training.config import TrainingConfig as TrainingConfig
from vqathinker.training.trainer import VQAThinkerTrainer as VQAThinkerTrainer
