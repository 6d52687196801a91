"""What can be known to fail before the first step."""

from __future__ import annotations

from collections.abc import Mapping

from datasets import Dataset

from vqathinker.model import VQAThinkerProcessor
from vqathinker.training.config import TrainingConfig
from vqathinker.types import Perturbation, Reward

REQUIRED_COLUMNS = ("prompt", "video_id", "dataset", "path", "target")


def check_setup(
    args: TrainingConfig,
    processor: VQAThinkerProcessor,
    rewards: Mapping[str, Reward],
    perturbations: Mapping[str, Perturbation],
    dataset: Dataset,
) -> None:
    """Refuse settings that cannot work together.

    A reward may declare `min_videos` (fewest videos in the global batch it can compare) and `needs_perturbed`.

    Raises:
        ValueError: naming the setting and the way out.
    """
    if not rewards:
        raise ValueError("no reward is configured; name at least one, e.g. rewards: [format, regression]")
    missing = [name for name in REQUIRED_COLUMNS if name not in dataset.column_names]
    if missing:
        raise ValueError(f"the training data lacks {', '.join(missing)}; load it with vqathinker.media.load_labels")
    if perturbations and processor.num_frames < 2:
        raise ValueError(f"perturbations need at least 2 frames per video, the processor takes {processor.num_frames}")
    num_videos = min(args.num_videos_per_generation, len(dataset))
    if len(dataset) < args.num_videos_per_generation:
        raise ValueError(
            f"{len(dataset)} training videos do not fill one generation batch of {args.num_videos_per_generation}; "
            "lower per_device_train_batch_size or gradient_accumulation_steps"
        )
    for label, reward in rewards.items():
        if getattr(reward, "min_videos", 1) > num_videos:
            raise ValueError(
                f"reward {label!r} compares at least {reward.min_videos} videos, the global batch holds {num_videos}; "  # type: ignore[attr-defined]
                "raise per_device_train_batch_size or gradient_accumulation_steps"
            )
        if getattr(reward, "needs_perturbed", False) and not perturbations:
            raise ValueError(f"reward {label!r} compares with perturbed copies; configure perturbations or drop it")
