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

if TYPE_CHECKING:
    from vqathinker.training.sft.trainer import SupervisedTrainer


def main() -> None:
    """Check, load, train, save."""
    run_recipe("sft", Path(__file__).with_suffix(".yaml"), compose)


def compose(settings: Settings) -> Composed[SupervisedTrainer]:
    """The trainer, the checkpoint to go on from, and where the result goes."""
    # torch takes seconds to import
    from trl import ModelConfig, SFTConfig

    from vqathinker.training.setup import SupervisedDataConfig, begin, load_model, load_sets, lora
    from vqathinker.training.sft.trainer import SupervisedTrainer

    data, args, model_config = settings.build(SupervisedDataConfig, SFTConfig, ModelConfig)
    train, validation = load_sets(data, max_missing=data.max_unreadable)
    model, processor = load_model(model_config, settings.given)
    trainer = SupervisedTrainer(
        model,
        args,
        processor=processor,
        train_dataset=train,
        eval_dataset=validation,
        max_unreadable=data.max_unreadable,
        think=data.think,
        eval_num_videos=data.eval_num_videos,
        eval_max_completion_length=data.eval_max_completion_length,
        peft_config=lora(model_config, model),
        base=model_config.model_name_or_path,
    )
    checkpoint = begin(settings)  # nothing has failed: the output folder is this run's
    return Composed(trainer, checkpoint, data.save_to or str(Path(args.output_dir, "final")))


if __name__ == "__main__":
    main()
