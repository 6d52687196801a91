"""GRPO on videos: one generation batch from files to rewards.

Rewards and perturbations are callables; the trainer knows none by name. What TRL calls privately lies in `adapter`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor

import rewards as reward_plugins
from perturbations import draw
from vqathinker.media.video import VideoError, read_many
from vqathinker.metrics import correlations
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout import EncodedVideo, HFEngine, Response, RolloutRequest, Sampling, VideoEncoder
from vqathinker.rollout.predict import Prediction, predict
from vqathinker.training.adapter import GRPOAdapter, Row, RowResponse, VideoInputs
from vqathinker.training.batch import Record, collect, log_batch
from vqathinker.training.checks import check_setup
from vqathinker.training.config import TrainingConfig
from vqathinker.types import Perturbation, Reward

logger = logging.getLogger(__name__)

Key = tuple[str, str]
UNREADABLE_FILE = "unreadable_videos.jsonl"


class VQAThinkerTrainer(GRPOAdapter):
    """Fine-tunes a policy with GRPO on rewards over the global batch.

    Args:
        model: loaded from a checkpoint directory, which also gives the reference model.
        args: the settings.
        processor: that of the same checkpoint.
        rewards: label → reward; each is called once per generation with the global batch.
        perturbations: key → mode for the twins; empty for no twins.
        train_dataset: rows from `vqathinker.media.dataset.load_labels`.
        eval_dataset: rows scored at each evaluation.
        reward_weights: label → weight, 1 where not given.
        kwargs: passed on to TRL's `GRPOTrainer`, e.g. `peft_config`, `callbacks`.

    Raises:
        ValueError: for settings that cannot work together, before anything is computed.
    """

    def __init__(
        self,
        model: VQAThinkerForConditionalGeneration,
        args: TrainingConfig,
        *,
        processor: VQAThinkerProcessor,
        rewards: Mapping[str, Reward],
        train_dataset: Dataset,
        perturbations: Mapping[str, Perturbation] | None = None,
        eval_dataset: Dataset | None = None,
        reward_weights: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self.rewards, self.perturbations = dict(rewards), dict(perturbations or {})
        check_setup(args, processor, self.rewards, self.perturbations, train_dataset)
        args.reward_weights = [float((reward_weights or {}).get(label, 1.0)) for label in self.rewards]
        super().__init__(
            model=model,
            reward_funcs=list(self.rewards.values()),
            args=args,
            processing_class=processor.tokenizer,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **kwargs,
        )
        self.reward_func_names = list(self.rewards)
        self.processing_class = processor  # what is saved with every checkpoint
        self.processor = processor
        self.sampling = Sampling(args.temperature, args.top_p, args.top_k, args.max_completion_length)
        self._clips: dict[Key, Any] = {}
        self._encoded: dict[Key, VideoInputs] = {}
        self._num_seen, self._num_unreadable = 0, 0

    def begin_batch(self, rows: list[Row]) -> None:
        """Decode the unique videos of the local rows; count and report the unreadable ones over all processes."""
        paths = {_key(row): row["path"] for row in rows}
        with self.timed("decode"):
            clips = read_many(list(paths.values()), self.processor.num_frames, self.args.decode_workers)
        self._clips = dict(zip(paths, clips, strict=True))
        errors = [[c.path, c.reason] for c in clips if isinstance(c, VideoError)]
        gathered = gather_object([(len(clips), errors)])
        self._report_unreadable([e for _, part in gathered for e in part], sum(n for n, _ in gathered))

    def respond(self, rows: list[Row]) -> list[RowResponse]:
        """One engine call for every local video and its twin."""
        blank = np.zeros((self.processor.num_frames, 28, 28, 3), np.uint8)
        frames = [blank if isinstance(c, VideoError) else c.frames for c in self._clips.values()]
        with self.policy_for_rollout() as policy:
            encoder = VideoEncoder(policy, self.processor, self.processor.training)
            with self.timed("encode"):
                videos = encoder.encode(frames)
                twins = encoder.perturb(videos, self._draw_perturbations()) if self.perturbations else []
                requests = self._requests(encoder, videos, "clean") + self._requests(encoder, twins, "twin")
            with self.timed("rollout"):
                engine = HFEngine(policy, self.processor)
                responses = engine.generate(requests, self.num_generations, self.sampling)
        self._encoded = {
            key: VideoInputs(video.pixels, video.motion_features, isinstance(self._clips[key], VideoError))
            for key, video in zip(self._clips, videos, strict=True)
        }
        return self._assign(rows, requests, responses)

    def video_inputs(self, rows: list[Row]) -> list[VideoInputs]:
        """The video of each row, shared by the rows of a group."""
        return [self._encoded[_key(row)] for row in rows]

    def reward_rows(self, rows: list[Row], texts: list[str]) -> Tensor:
        """Evaluate every reward once on the global batch; rows of unreadable videos are NaN."""
        local = [
            Record.from_row(row, text, self._encoded[_key(row)].skipped)
            for row, text in zip(rows, texts, strict=True)
        ]
        with self.timed("rewards"):
            records: list[Record] = gather_object(local)
            values = torch.full((len(records), len(self.rewards)), torch.nan)
            batch, places = collect(records, think=not self._answer_only)
            if batch is not None:
                for column, (label, reward) in enumerate(self.rewards.items()):
                    table = reward_plugins.evaluate(reward, batch, label)
                    for place, index in places.items():
                        values[place, column] = float(table[index])
                log_batch(batch, self.rewards, self.log_metric)
        self._log_table(rows, local)
        return values

    def evaluate(
        self, eval_dataset: Dataset | None = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the validation videos greedily, split over the processes; log SRCC, PLCC, RMSE and the failures."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("there is no validation data: give eval_dataset")
        limit = self.args.eval_num_videos or len(dataset)
        rows = [dataset[i] for i in range(min(limit, len(dataset)))]
        self.model.eval()
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in self._validate(rows).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.model.train()
        return metrics

    def _validate(self, rows: Sequence[Row]) -> dict[str, float]:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        part = rows[rank::world]
        with self.policy_for_rollout() as policy:
            answers = predict(
                policy,
                self.processor,
                [row["path"] for row in part],
                sampling=Sampling(max_new_tokens=self.args.max_completion_length),
                batch_size=self.args.per_device_eval_batch_size,
                num_workers=self.args.decode_workers,
            )
            local = list(zip(answers, [row["target"] for row in part], strict=True))
        pairs: list[tuple[Prediction, float]] = gather_object(local)
        readable = [(p.score, target) for p, target in pairs if p.error is None]
        result = correlations(*np.array(readable, dtype=np.float64).reshape(-1, 2).T, num_bootstrap=0)
        return {
            "srcc": result.srcc.value,
            "plcc": result.plcc.value,
            "rmse": result.rmse.value,
            "parse_failures": float(result.num_failed),
            "unreadable": float(len(pairs) - len(readable)),
        }

    @property
    def _answer_only(self) -> bool:
        """Whether a reward accepts responses without reasoning (the "no reasoning" ablation)."""
        return any(getattr(reward, "think", True) is False for reward in self.rewards.values())

    def _draw_perturbations(self) -> list[np.ndarray]:
        step = self.state.global_step
        return [
            draw(
                self.perturbations,
                self.processor.num_frames,
                seed=self.args.seed,
                video_id="/".join(key),
                step=step,
            )[1]
            for key in self._clips
        ]

    def _requests(self, encoder: VideoEncoder, videos: Sequence[EncodedVideo], kind: str) -> list[RolloutRequest]:
        names = ["/".join(key) for key in self._clips]
        step = self.state.global_step
        return [encoder.request(v, f"{name}-{kind}-{step}") for name, v in zip(names, videos, strict=False)]

    def _assign(
        self, rows: list[Row], requests: Sequence[RolloutRequest], responses: Sequence[Sequence[Response]]
    ) -> list[RowResponse]:
        """Give each row of a video one of its responses, by id."""
        num_videos = len(self._clips)
        twins = list(responses[num_videos:]) or [None] * num_videos
        left = {
            key: iter([(requests[i].prompt_ids, r, twins[i] and twins[i][k]) for k, r in enumerate(responses[i])])
            for i, key in enumerate(self._clips)
        }
        assigned = []
        for row in rows:
            prompt_ids, response, twin = next(left[_key(row)])
            text = twin and self.processor.tokenizer.decode(twin.token_ids, skip_special_tokens=True)
            assigned.append(RowResponse(prompt_ids, response.token_ids, response.logprobs, text))
        return assigned

    def _report_unreadable(self, errors: list[list[str]], num_videos: int) -> None:
        self._num_seen += num_videos
        self._num_unreadable += len(errors)
        self.log_metric("unreadable_videos", float(len(errors)))
        if not errors:
            return
        report = Path(self.args.output_dir, UNREADABLE_FILE)
        if self.accelerator.is_main_process:
            report.parent.mkdir(parents=True, exist_ok=True)
            with report.open("a", encoding="utf-8") as file:
                for path, reason in errors:
                    logger.warning("skipped %s: %s", path, reason)
                    file.write(json.dumps({"step": self.state.global_step, "path": path, "reason": reason}) + "\n")
        if self._num_unreadable > self.args.max_unreadable * self._num_seen:
            raise RuntimeError(
                f"{self._num_unreadable} of {self._num_seen} videos could not be read, more than "
                f"max_unreadable={self.args.max_unreadable}: {errors[0][0]}: {errors[0][1]} (all in {report}). "
                "Check the data set with `vqathinker prepare`."
            )

    def _log_table(self, rows: list[Row], records: list[Record]) -> None:
        self.log_column("target", [record.target for record in records])
        self.log_column("twin", [row.get("twin_text") or "" for row in rows])


def _key(row: Row) -> Key:
    return row["dataset"], row["video_id"]
