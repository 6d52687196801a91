"""Fine-tune with GRPO on LSVQ or on your own labels.

accelerate launch -q --config_file recipes/accelerate/zero2.yaml recipes/grpo_lsvq.py \
    --model_name_or_path DIR --train_labels labels_train_test.csv --train_videos LSVQ/

`vqathinker train grpo` runs the same. The settings are those of `grpo_lsvq.yaml` beside this file, or of the
file given with `--config`; every option can be overridden on the command line, `--help` lists them.
`--resume_from_checkpoint true` continues an interrupted run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vqathinker.launch import Composed, Settings, build_plugins, run_recipe

if TYPE_CHECKING:
    from vqathinker.training import VQAThinkerTrainer


def main() -> None:
    """Check, load, train, save."""
    run_recipe("grpo", Path(__file__).with_suffix(".yaml"), compose)


def compose(settings: Settings) -> Composed[VQAThinkerTrainer]:
    """The trainer, the checkpoint to go on from, and where the result goes."""
    # torch takes seconds to import
    from trl import ModelConfig

    from vqathinker.training import TrainingConfig, VQAThinkerTrainer
    from vqathinker.training.setup import DataConfig, composed, load_start

    data, args, model_config = settings.build(DataConfig, TrainingConfig, ModelConfig)
    rewards = build_plugins(settings, "rewards")
    perturbations = build_plugins(settings, "perturbations")
    start = load_start(settings, data, model_config, max_missing=args.max_unreadable)
    trainer = VQAThinkerTrainer(
        args=args,
        rewards={plugin.label: plugin.function for plugin in rewards},
        reward_weights={plugin.label: plugin.weight for plugin in rewards},
        perturbations={plugin.label: plugin.function for plugin in perturbations},
        **start,
    )
    return composed(settings, data, trainer)


if __name__ == "__main__":
    main()
