"""Supervised fine-tuning on templated answers: the paper's SFT baseline and the warm start of a small model.

accelerate launch --config_file recipes/accelerate/zero2.yaml recipes/sft_lsvq.py \
    --model_name_or_path DIR --train_labels labels_train_test.csv --train_videos LSVQ/

The settings are those of `sft_lsvq.yaml` beside this file, or of the file given with `--config`.
"""

from pathlib import Path

from trl import ModelConfig, SFTConfig, SFTTrainer

from vqathinker.training.setup import (
    DataConfig,
    claim_output,
    load_data,
    load_model,
    lora,
    parse,
    require,
    user_errors,
)  # fmt: skip
from vqathinker.training.sft import SupervisedCollator


def main() -> None:
    """Parse, load, train, save."""
    with user_errors():
        settings = (DataConfig, SFTConfig, ModelConfig)
        data, args, model_config = parse(settings, Path(__file__).with_suffix(".yaml"))
        require(data, model_config)
        train = load_data(data, "train", max_missing=0.0)
        resume = claim_output(args, data)
        model, processor = load_model(model_config)
        trainer = SFTTrainer(
            model,
            args,
            train_dataset=train,
            data_collator=SupervisedCollator(processor),
            processing_class=processor.tokenizer,
            peft_config=lora(model_config),
        )
    trainer.processing_class = processor  # what is saved with every checkpoint
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_state()
    trainer.save_model(data.save_to or str(Path(args.output_dir, "final")))


if __name__ == "__main__":
    main()
