"""Fine-tune with GRPO on LSVQ or on your own labels.

accelerate launch --config_file recipes/accelerate/zero2.yaml recipes/grpo_lsvq.py \
    --model_name_or_path DIR --train_labels labels_train_test.csv --train_videos LSVQ/

The settings are those of `grpo_lsvq.yaml` beside this file, or of the file given with `--config`; every
option can be overridden on the command line. `--resume_from_checkpoint true` continues an interrupted run.
"""

from pathlib import Path

from trl import ModelConfig

import perturbations
import rewards
from vqathinker.plugins import build
from vqathinker.training import TrainingConfig, VQAThinkerTrainer
from vqathinker.training.setup import (
    DataConfig,
    check_evaluation,
    claim_output,
    load_model,
    load_sets,
    lora,
    parse,
    require,
    user_errors,
)  # fmt: skip


def main() -> None:
    """Parse, load, train, save."""
    with user_errors():
        settings = (DataConfig, TrainingConfig, ModelConfig)
        default = Path(__file__).with_suffix(".yaml")
        require(*parse((DataConfig, ModelConfig), default, partly=True))  # before TRL looks for a GPU
        data, args, model_config = parse(settings, default)
        check_evaluation(args, data)
        reward_plugins = build(args.rewards, rewards.REWARDS, group="vqathinker.rewards")
        modes = build(args.perturbations, perturbations.PERTURBATIONS, group="vqathinker.perturbations")
        train, validation = load_sets(data, max_missing=args.max_unreadable)
        resume = claim_output(args, data)
        model, processor = load_model(model_config)
        trainer = VQAThinkerTrainer(
            model,
            args,
            processor=processor,
            rewards={plugin.label: plugin.function for plugin in reward_plugins},
            reward_weights={plugin.label: plugin.weight for plugin in reward_plugins},
            perturbations={plugin.label: plugin.function for plugin in modes},
            train_dataset=train,
            eval_dataset=validation,
            peft_config=lora(model_config, model),
        )
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_state()
    trainer.save_model(data.save_to or str(Path(args.output_dir, "final")))


if __name__ == "__main__":
    main()
