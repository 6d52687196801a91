"""A stage of supervised tuning: which parts learn how fast, from which samples, by which losses.

accelerate launch -q --config_file recipes/accelerate/zero2.yaml recipes/tune.py \
    --config recipes/stages/vital_pretraining.yaml \
    --model_name_or_path DIR --train_labels samples.jsonl --train_videos DIR

`vqathinker train tune --config vital_pretraining` runs the same. A stage that follows starts from the result
of the one before.
"""

from __future__ import annotations

from pathlib import Path

from sft_lsvq import compose

from vqathinker.launch import run_recipe


def main() -> None:
    """Check, load, train, save."""
    run_recipe("tune", Path(__file__).with_suffix(".yaml"), compose)


if __name__ == "__main__":
    main()
