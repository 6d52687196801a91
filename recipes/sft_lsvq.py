"""Supervised fine-tuning on templated answers: the paper's SFT baseline and the warm start of a small model.

accelerate launch --config_file recipes/accelerate/zero2.yaml recipes/sft_lsvq.py \
    --model_name_or_path DIR --train_labels labels_train_test.csv --train_videos LSVQ/

The settings are those of `sft_lsvq.yaml` beside this file, or of the file given with `--config`.
"""

from pathlib import Path

from trl import ModelConfig, SFTConfig

from vqathinker.training.setup import (
    DataConfig,
    SupervisedDataConfig,
    check_evaluation,
    claim_output,
    load_model,
    load_sets,
    lora,
    parse,
    require,
    user_errors,
)  # fmt: skip
from vqathinker.training.sft import SupervisedTrainer


def main() -> None:
    """Parse, load, train, save."""
    with user_errors():
        settings = (SupervisedDataConfig, SFTConfig, ModelConfig)
        default = Path(__file__).with_suffix(".yaml")
        require(*parse((DataConfig, ModelConfig), default, partly=True))  # before TRL looks for a GPU
        data, args, model_config = parse(settings, default)
        check_evaluation(args, data)
        train, validation = load_sets(data, max_missing=data.max_unreadable)
        resume = claim_output(args, data)
        model, processor = load_model(model_config)
        trainer = SupervisedTrainer(
            model,
            args,
            processor=processor,
            train_dataset=train,
            eval_dataset=validation,
            max_unreadable=data.max_unreadable,
            peft_config=lora(model_config, model),
        )
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_state()
    trainer.save_model(data.save_to or str(Path(args.output_dir, "final")))


if __name__ == "__main__":
    main()
