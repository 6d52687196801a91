"""What can be known to fail before the first step of GRPO."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from datasets import Dataset

from vqathinker import answers
from vqathinker.model import VQAThinkerProcessor
from vqathinker.nearest import or_nearest
from vqathinker.scale import SCALE, off_scale
from vqathinker.training.grpo.batch import accepts_answer_only
from vqathinker.training.grpo.config import TrainingConfig
from vqathinker.training.grpo.rehearsal import rehearse_perturbations, rehearse_rewards
from vqathinker.training.missing import check_columns
from vqathinker.types import FloatArray, Perturbation, Reward

logger = logging.getLogger(__name__)

REQUIRED_COLUMNS = ("prompt", "video_id", "dataset", "path", "target")
FEW = 0.01  # share of the targets that may lie off the scale: 21 of LSVQ's 28,056 do
WITHOUT_FLEX = ("cpu", "mps")


def check_setup(
    args: TrainingConfig,
    processor: VQAThinkerProcessor,
    rewards: Mapping[str, Reward],
    perturbations: Mapping[str, Perturbation],
    dataset: Dataset,
) -> None:
    """Refuse settings that cannot work together.

    A reward may declare `min_videos`, the fewest videos in the global batch it can compare, and
    `needs_perturbed`.

    Raises:
        ValueError: naming the setting and the way out.
    """
    if not rewards:
        raise ValueError("no reward is configured; name at least one, e.g. rewards: [format, regression]")
    missing = [name for name in REQUIRED_COLUMNS if name not in dataset.column_names]
    if missing:
        raise ValueError(
            f"the training data lacks the columns {', '.join(missing)}; "
            "load it with vqathinker.data.dataset.load_labels"
        )
    check_columns(dataset)
    repeated = len(dataset) - len(set(zip(dataset["dataset"], dataset["video_id"], strict=True)))
    if repeated:
        raise ValueError(
            f"{repeated} rows of the training data have the data set and the id of another row; groups of "
            "responses go by them, so give each its own"
        )
    if args.packed_attention == "flex" and args.device.type in WITHOUT_FLEX:
        raise ValueError(
            f"packed_attention='flex': FlexAttention has no backward pass on {args.device.type}; "
            "use 'segments'"
        )
    target = np.asarray(dataset["target"], dtype=np.float64)
    _check_targets(target[np.isfinite(target)])  # of other tasks there is none
    if perturbations and processor.num_frames < 2:
        raise ValueError(
            f"perturbations need at least 2 frames per video, the processor takes {processor.num_frames}; "
            "set perturbations: [] or make a checkpoint with more frames"
        )
    if len(dataset) < args.num_videos_per_generation:
        raise ValueError(
            f"{len(dataset)} training videos do not fill one generation batch of "
            f"{args.num_videos_per_generation}; lower per_device_train_batch_size or "
            "gradient_accumulation_steps"
        )
    names = set(dataset["dataset"])
    for label, reward in rewards.items():
        if unknown := sorted(set(getattr(reward, "datasets", None) or names) - names):
            hint = or_nearest(unknown[0], sorted(names))
            raise ValueError(
                f"reward {label!r} is for the data set {unknown[0]!r}; the training data are of "
                f"{', '.join(sorted(names))}{hint}"
            )
        _check_reward(label, reward, args.num_videos_per_generation, has_twins=bool(perturbations))
    check_prompt(processor, think=not accepts_answer_only(rewards))
    rehearse_rewards(rewards, dataset, args, with_twins=bool(perturbations))
    rehearse_perturbations(perturbations, processor.num_frames, args)


def _check_targets(target: FloatArray) -> None:
    """Refuse labels of which most lie off the scale, and warn of more than a few."""
    low, high = SCALE
    outside = int(off_scale(target).sum())
    if outside > len(target) / 2:
        raise ValueError(
            f"{outside} of {len(target)} training targets lie outside {low:g} to {high:g}, between "
            f"{target.min():.3g} and {target.max():.3g}; give the native range of the labels as mos_low and "
            "mos_high"
        )
    if outside > FEW * len(target):
        logger.warning(
            "%d of %d training targets lie outside %g to %g, where no answer can reach them; --scale affine "
            "maps the native range onto it",
            outside, len(target), low, high,
        )  # fmt: skip


def _check_reward(label: str, reward: Reward, num_videos: int, *, has_twins: bool) -> None:
    """Refuse a reward that the batch cannot give what it compares."""
    if getattr(reward, "min_videos", 1) > num_videos:
        raise ValueError(
            f"reward {label!r} compares videos and the global batch holds only {num_videos}; raise "
            "per_device_train_batch_size or gradient_accumulation_steps, or leave this reward out"
        )
    if getattr(reward, "needs_perturbed", False) and not has_twins:
        raise ValueError(
            f"reward {label!r} compares with perturbed copies; configure perturbations or leave it out"
        )


def check_prompt(processor: VQAThinkerProcessor, *, think: bool) -> None:
    """Warn where the prompt and the rewards disagree on whether a response reasons first.

    A prompt that names neither block leaves the form to what the model has learned.
    """
    question = str(processor.prompt["question"])
    if answers.THINK in question and not think:
        logger.warning(
            "a reward accepts answers without reasoning (think: false), and the checkpoint's prompt asks for "
            "%s: make one with another question, vqathinker init --prompt FILE; it is then scored with "
            "--answer-only",
            answers.THINK,
        )
    if think and answers.ANSWER in question and answers.THINK not in question:
        logger.warning(
            "the prompt asks for an answer without %s, and such a response has no score: give the format "
            "reward think: false, or make a checkpoint with another question, vqathinker init --prompt "
            "FILE",
            answers.THINK,
        )
