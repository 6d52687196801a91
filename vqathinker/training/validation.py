"""Validation during training: greedy scores of labelled videos, split over the processes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from accelerate.utils import gather_object
from datasets import Dataset

from vqathinker import answers
from vqathinker.metrics import correlations
from vqathinker.rollout import Sampling
from vqathinker.rollout.predict import Prediction, predict
from vqathinker.training.rows import Row

if TYPE_CHECKING:
    from vqathinker.training.trainer import VQAThinkerTrainer


def validate(trainer: VQAThinkerTrainer, dataset: Dataset) -> dict[str, float]:
    """Correlations over the videos with a score, clipped to the scale as everywhere where scores are shown.

    With them the numbers of parse failures, of clipped scores and of unreadable files.
    Of many videos `eval_num_videos` are taken, at even distances.
    """
    accelerator, args = trainer.accelerator, trainer.args
    number = min(args.eval_num_videos or len(dataset), len(dataset))
    rows: list[Row] = [dataset[int(i)] for i in np.linspace(0, len(dataset) - 1, number).round()]
    part = rows[accelerator.process_index :: accelerator.num_processes]
    with trainer.policy_for_rollout() as policy:
        predictions = predict(
            policy,
            trainer.processor,
            [row["path"] for row in part],
            sampling=Sampling(max_new_tokens=trainer.sampling.max_new_tokens),
            batch_size=args.per_device_eval_batch_size,
            decoders=trainer.decoders,
            think=trainer.think,
        )
        local = list(zip(predictions, [row["target"] for row in part], strict=True))
    pairs: list[tuple[Prediction, float]] = gather_object(local)
    readable = [(p.score, target) for p, target in pairs if p.error is None]
    written = [score for score, _ in readable]
    scores = [answers.clip(score) for score in written]
    num_clipped = sum(score != raw for score, raw in zip(scores, written, strict=True) if not math.isnan(raw))
    result = correlations(scores, [target for _, target in readable], num_bootstrap=0)
    return {
        "srcc": result.srcc.value,
        "plcc": result.plcc.value,
        "rmse": result.rmse.value,
        "parse_failures": float(result.num_failed),
        "clipped": float(num_clipped),
        "unreadable": float(len(pairs) - len(readable)),
    }
