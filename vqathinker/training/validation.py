"""Validation during training: greedy scores of labelled videos, split over the processes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import Trainer

from vqathinker import answers
from vqathinker.data.label_rows import tasks_of
from vqathinker.media.guarded import GuardedReader
from vqathinker.metrics import correlations
from vqathinker.model import VQAThinkerProcessor
from vqathinker.rollout import Sampling
from vqathinker.rollout.answer import Prediction, predict
from vqathinker.samples import SCORE
from vqathinker.training.grpo.rows import Row
from vqathinker.training.sharding import policy_for_rollout


@dataclass(frozen=True)
class Figure:
    """One of those that validation tells.

    Attributes:
        title: in the table of a run and on the card of a checkpoint.
        more_is_better: which of two is the better one.
    """

    title: str
    more_is_better: bool = False


FIGURES = {
    "srcc": Figure("SRCC", more_is_better=True),
    "plcc": Figure("PLCC", more_is_better=True),
    "rmse": Figure("RMSE"),
    "distinct": Figure("distinct scores", more_is_better=True),
    "parse_failures": Figure("answers without a score"),
    "clipped": Figure("answers off the scale"),
    "unreadable": Figure("unreadable videos"),
}
COUNTS = ("distinct", "parse_failures", "clipped", "unreadable")
LOSS = "loss"  # that supervised training tells beside them


def find_metric(told: str, *others: str) -> str:
    """The figure that the best checkpoint is best by, under its own name.

    Args:
        told: the name, which may begin with transformers' `eval_`.
        others: figures of the trainer beside validation's.

    Raises:
        ValueError: if there is no such figure.
    """
    name = told.removeprefix("eval_")
    known = [*FIGURES, *others]
    if name not in known:
        raise ValueError(
            f"metric_for_best_model={name!r}: expected one of {', '.join(known)}, which validation tells"
        )
    return name


def validate(
    trainer: Trainer,
    dataset: Dataset,
    processor: VQAThinkerProcessor,
    decoders: GuardedReader,
    *,
    num_videos: int,
    max_new_tokens: int,
    think: bool,
    levels: bool = False,
) -> dict[str, float]:
    """Correlations over the videos with a score, clipped to the scale as everywhere where scores are shown.

    With them the numbers of distinct scores, of parse failures, of clipped scores and of unreadable files.

    Args:
        trainer: its policy answers, in batches of `per_device_eval_batch_size`.
        dataset: rows from `vqathinker.data.dataset.load_labels`.
        processor: the checkpoint's.
        decoders: the processes that decode.
        num_videos: how many are taken, at even distances; 0 for all.
        max_new_tokens: longest response.
        think: False also reads the score of an answer block alone.
        levels: whether the score is the expected level.
    """
    accelerator = trainer.accelerator
    scored = [i for i, task in enumerate(tasks_of(dataset)) if task == SCORE]
    # at even distances: label files are often sorted
    number = min(num_videos or len(scored), len(scored))
    places = np.linspace(0, len(scored) - 1, number).round().astype(int)
    rows: list[Row] = [dataset[scored[i]] for i in places]
    # each process answers its share, and all know what all have found
    part = rows[accelerator.process_index :: accelerator.num_processes]
    with policy_for_rollout(trainer) as policy:
        predictions = predict(
            policy,
            processor,
            [row["path"] for row in part],
            sampling=Sampling(max_new_tokens=max_new_tokens),
            batch_size=trainer.args.per_device_eval_batch_size,
            decoders=decoders,
            think=think,
            questions=[row.get("question") for row in part],
            levels=levels,
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
        "distinct": float(len({score for score in scores if not math.isnan(score)})),
        "parse_failures": float(result.num_failed),
        "clipped": float(num_clipped),
        "unreadable": float(len(pairs) - len(readable)),
    }
