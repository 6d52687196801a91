"""Supervised fine-tuning on templated answers: the paper's SFT baseline and the warm start of a small model.

accelerate launch -q --config_file recipes/accelerate/zero2.yaml recipes/sft_lsvq.py \
    --model_name_or_path DIR --train_labels labels_train_test.csv --train_videos LSVQ/

`vqathinker train sft` runs the same. The settings are those of `sft_lsvq.yaml` beside this file, or of the
file given with `--config`; `--help` lists all options.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vqathinker.launch import Composed, Settings, run_recipe
from vqathinker.launch.stages import rates_of

if TYPE_CHECKING:
    from vqathinker.training.sft.trainer import SupervisedTrainer


def main() -> None:
    """Check, load, train, save."""
    run_recipe("sft", Path(__file__).with_suffix(".yaml"), compose)


def compose(settings: Settings) -> Composed[SupervisedTrainer]:
    """The trainer, the checkpoint to go on from, and where the result goes."""
    # torch takes seconds to import
    from trl import ModelConfig, SFTConfig

    from vqathinker.training.setup import SupervisedDataConfig, composed, load_start
    from vqathinker.training.sft.objective import LossConfig
    from vqathinker.training.sft.trainer import SupervisedTrainer

    data, losses, args, model_config = settings.build(
        SupervisedDataConfig, LossConfig, SFTConfig, ModelConfig
    )
    if data.in_sequence:
        args.train_sampling_strategy = "sequential"
    start = load_start(settings, data, model_config, max_missing=data.max_unreadable)
    trainer = SupervisedTrainer(
        args=args,
        max_unreadable=data.max_unreadable,
        think=data.think,
        losses=losses,
        parts=rates_of(data.parts) if data.parts else None,
        eval_num_videos=data.eval_num_videos,
        eval_max_completion_length=data.eval_max_completion_length,
        **start,
    )
    return composed(settings, data, trainer)


if __name__ == "__main__":
    main()
