"""GRPO on videos: one generation batch from files to rewards.

Rewards and perturbations are callables; the trainer knows none by name. What TRL calls privately lies in
`adapter`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import Trainer
from transformers.trainer_utils import TrainOutput

import rewards as reward_plugins
from vqathinker import answers
from vqathinker.checkpoints.adapters import bare
from vqathinker.media.ahead import ReadAhead
from vqathinker.media.clips import read_clip
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.modeling import check_packed_attention
from vqathinker.records import Record, collect
from vqathinker.rollout import HFEngine, Sampling
from vqathinker.rollout.encoder import VideoEncoder
from vqathinker.rollout.motion_cache import MotionCache
from vqathinker.training.card import Origin, WritesCard
from vqathinker.training.grpo.adapter import GRPOAdapter
from vqathinker.training.grpo.batch import accepts_answer_only, as_reward, batch_metrics, draws_twins
from vqathinker.training.grpo.config import TrainingConfig
from vqathinker.training.grpo.engines import SynchronisedEngine, generate_or_stop, make_engine
from vqathinker.training.grpo.generation import AnsweredBatch, ReadBatch, ReadFile, key_of
from vqathinker.training.grpo.reference import HostedModel
from vqathinker.training.grpo.refusals import check_setup
from vqathinker.training.grpo.rollouts import assign, draw_twins, encode_files, make_requests
from vqathinker.training.grpo.rows import Row, VideoInputs
from vqathinker.training.live import grpo_columns, log_file, show_live
from vqathinker.training.missing import check_precision, check_processes
from vqathinker.training.sharding import policy_for_rollout
from vqathinker.training.unreadable import UnreadableVideos
from vqathinker.training.validation import validate
from vqathinker.types import FloatArray, Perturbation, Reward, RolloutBatch, RunStopped

logger = logging.getLogger(__name__)

T = TypeVar("T")
WITHOUT_TWINS = "No reward asks for perturbed copies of the videos (needs_perturbed): none are generated."
LOSS_NOTE = "The loss of GRPO starts at 0 by construction and says nothing about progress: watch `reward`."


class VQAThinkerTrainer(WritesCard, GRPOAdapter):
    """Fine-tunes a policy with GRPO on rewards over the global batch.

    Args:
        model: loaded from a checkpoint directory; the reference is the policy as it was loaded.
        args: the settings.
        processor: that of the same checkpoint.
        rewards: label → reward, or TRL-style function with a parameter `completions`; each is called once per
            generation with the global batch.
        train_dataset: rows from `vqathinker.data.dataset.load_labels`.
        perturbations: label → mode for the twins, which are generated if a reward asks for them.
        eval_dataset: rows scored at each evaluation.
        reward_weights: label → weight, 1 where not given.
        decoders: the processes that decode, if several trainers are to share them; its own if omitted.
        base: what the run starts from, for the model card; the model's name if omitted.
        kwargs: passed on to TRL's `GRPOTrainer`, e.g. `peft_config`, `callbacks`.

    Raises:
        ValueError: for settings that cannot work together, before anything is computed.
    """

    def __init__(
        self,
        model: VQAThinkerForConditionalGeneration | PeftModel,
        args: TrainingConfig,
        *,
        processor: VQAThinkerProcessor,
        rewards: Mapping[str, Callable[..., Any]],
        train_dataset: Dataset,
        perturbations: Mapping[str, Perturbation] | None = None,
        eval_dataset: Dataset | None = None,
        reward_weights: Mapping[str, float] | None = None,
        decoders: GuardedReader | None = None,
        base: str | None = None,
        **kwargs: Any,
    ) -> None:
        # TRL's constructor calls `make_engine`, which reads what is set before it
        self.rewards = {label: as_reward(reward) for label, reward in rewards.items()}
        self.perturbations = self._twin_modes(perturbations or {}, says=args.process_index == 0)
        check_setup(args, processor, self.rewards, self.perturbations, train_dataset)
        check_packed_attention(bare(model).model)
        asks = "question" in train_dataset.column_names
        self.questions = set(train_dataset["question"][:]) if asks else {None}
        self.processor = processor
        self.base = base or str(model.name_or_path)
        weights = dict.fromkeys(self.rewards, 1.0) | dict(reward_weights or {})
        if unknown := weights.keys() - self.rewards.keys():
            raise ValueError(f"reward_weights names {min(unknown)!r}, which is none of {', '.join(rewards)}")
        args.reward_weights = [float(weights[label]) for label in self.rewards]
        super().__init__(
            model=model,
            reward_funcs=list(self.rewards.values()),
            args=args,
            processing_class=processor.tokenizer,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **kwargs,
        )
        if self.is_fsdp_enabled and self.accelerator.state.fsdp_plugin.fsdp_version == 1:
            raise ValueError("rollouts need FSDP's second version: recipes/accelerate/fsdp2.yaml")
        if args.offload_reference:
            self.hosted_reference = HostedModel(self.ref_model, self.accelerator.device)
        check_processes(self.accelerator.num_processes)
        check_precision(self.model, has_master_weights=self.is_deepspeed_enabled)
        show_live(self, grpo_columns(list(self.rewards)))
        self.reward_func_names = list(self.rewards)
        self.processing_class = processor  # what is saved with every checkpoint
        self.think = not accepts_answer_only(self.rewards)
        assert args.max_completion_length is not None
        self.sampling = Sampling(args.temperature, args.top_p, args.top_k, args.max_completion_length)
        num_files = len(set(train_dataset["path"]))
        self.unreadable = UnreadableVideos(str(args.output_dir), num_files, args.max_unreadable)
        videos_per_process = args.num_videos_per_generation // self.accelerator.num_processes
        self.owns_decoders = decoders is None
        self.decoders = decoders or GuardedReader(
            num_workers=args.decode_workers, time_limit=args.decode_seconds
        )
        self.reader = ReadAhead(self._read, args.decode_workers, 2 * videos_per_process)
        self.motion_cache = MotionCache.of_policy(
            str(args.motion_cache), bare(model), processor, processor.training, args.motion_cache_gib * 2**30
        )

    def _twin_modes(
        self, perturbations: Mapping[str, Perturbation], *, says: bool
    ) -> dict[str, Perturbation]:
        """The modes of the twins; none where no reward asks for twins."""
        if perturbations and not draws_twins(self.rewards.values(), perturbations):
            if says:
                logger.warning(WITHOUT_TWINS)
            return {}
        return dict(perturbations)

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,  # noqa: ANN401  as transformers declares it
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train as `transformers.Trainer.train` does; a resumed run counts its unreadable videos on."""
        if self.accelerator.is_main_process:
            logger.warning(LOSS_NOTE)
            self.unreadable.begin(resumes=bool(resume_from_checkpoint), write=True)
        counted = broadcast_object_list([self.unreadable.paths])  # the report need not be on every machine
        self.unreadable.paths = counted[0]
        try:
            with log_file(str(self.args.output_dir), write=self.accelerator.is_main_process):
                return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        finally:
            self.reader.forget()
            if self.owns_decoders:
                self.decoders.close()  # whatever hangs in one must not delay the end

    def origin(self) -> Origin:
        """What the model card tells."""
        args = self.args
        weights = zip(self.rewards, args.reward_weights or (), strict=True)
        settings = {
            "rewards": ", ".join(f"{label} × {weight:g}" for label, weight in weights),
            "perturbations": ", ".join(self.perturbations) or "none",
            "responses per video": self.num_generations,
            "videos per generation": args.num_videos_per_generation,
            "beta": args.beta,
            "learning rate": args.learning_rate,
            "seed": args.seed,
        }
        method = "Fine-tuned with GRPO"
        return Origin(method, self.base, self.train_dataset, self.eval_dataset, settings, not self.think)

    def make_engine(self) -> SynchronisedEngine:
        """The engine of `use_vllm`."""
        setting = self.processor.training
        lengths = [
            len(self.processor.prompt_ids(setting.num_frames, setting.tokens_per_frame, question=question))
            for question in self.questions
        ]
        return make_engine(
            self.args,
            self.processor,
            self.model,
            prompt_length=max(lengths),
            draws_twins=bool(self.perturbations),
            process_index=self.accelerator.process_index,
        )

    def announce(self, rows: list[Row]) -> None:
        """Have the videos of the rows decoded while the steps before them are computed."""
        self.reader.announce(row["path"] for row in rows)

    def read_batch(self, rows: list[Row]) -> ReadBatch:
        """Wait for the files of the local rows; count the unreadable ones over all processes."""
        paths = list(dict.fromkeys(row["path"] for row in rows))
        with self.timed("data_wait"):
            files = dict(zip(paths, self.reader.take(paths), strict=True))
        contents = [file.pixels for file in files.values()]
        errors = [(found.path, found.reason) for found in contents if isinstance(found, VideoError)]
        gathered: list[tuple[int, list[tuple[str, str]]]] = gather_object([(len(files), errors)])
        everyone = [error for _, part in gathered for error in part]
        self.log_metric("unreadable_videos", float(len(everyone)))
        batch_size = sum(number for number, _ in gathered)
        main = self.accelerator.is_main_process
        self.unreadable.add(everyone, batch_size, self.state.global_step, write=main)
        return ReadBatch(rows, files)

    def respond(self, batch: ReadBatch) -> AnsweredBatch:
        """One engine call for every local sample and its twin."""
        step = self.state.global_step
        twins = draw_twins(
            batch,
            self.perturbations,
            self.rewards.values(),
            num_frames=self.processor.num_frames,
            seed=self.args.seed,
            step=step,
        )
        with policy_for_rollout(self) as policy:
            setting = self.processor.training
            encoder = VideoEncoder(policy, self.processor, setting, motion_cache=self.motion_cache)
            with self.timed("encode"):
                encoded = encode_files(encoder, batch)
                requests = make_requests(encoder, batch, encoded, twins, step)
            trains_vision = policy.model.trains_vision
            if self.own_engine is None:
                with self.timed("rollout"):
                    engine = HFEngine(policy, self.processor)
                    responses = engine.generate(requests, self.num_generations, self.sampling)
        if self.own_engine is not None:  # outside of the policy's autocast and gathered weights
            with self.timed("rollout"):
                responses = generate_or_stop(self, requests, self.num_generations, self.sampling)
        inputs = {
            key: VideoInputs.of(
                encoded[row["path"]],
                skipped=not batch.files[row["path"]].is_readable,
                trains_vision=trains_vision,
            )
            for key, row in batch.samples.items()
        }
        said = assign(batch, twins, requests, responses, self.processor.tokenizer)
        return AnsweredBatch(batch.rows, inputs, twins, said)

    def reward_rows(self, batch: AnsweredBatch, texts: list[str]) -> Tensor:
        """Evaluate every reward once on the global batch; rows of unreadable videos are NaN."""
        local = [
            Record.from_row(
                row | {"twin_text": said.twin_text}, text, skipped=batch.inputs[key_of(row)].skipped
            )
            for row, said, text in zip(batch.rows, batch.responses, texts, strict=True)
        ]
        with self.timed("rewards"):
            records: list[Record] = gather_object(local)
            values = torch.full((len(records), len(self.rewards)), torch.nan)
            everyone, places = collect(records, think=self.think, draws_twins=bool(self.perturbations))
            if everyone is not None:
                for column, (label, reward) in enumerate(self.rewards.items()):
                    table = self._rewarded(reward, everyone, label)
                    for place, index in places.items():
                        values[place, column] = float(table[index])
                for name, value in self._checked(batch_metrics, everyone, self.rewards).items():
                    self.log_metric(name, value)
        self._log_table(batch, local)
        return values

    def _rewarded(self, reward: Reward, batch: RolloutBatch, label: str) -> FloatArray:
        """The values of a reward; of one that asks others the main process's, so that they are asked once."""
        if not getattr(reward, "runs_once", False):
            return self._checked(reward_plugins.evaluate, reward, batch, label)
        found: list[Any] = [None]
        if self.accelerator.is_main_process:
            try:
                found = [self._checked(reward_plugins.evaluate, reward, batch, label)]
            except RunStopped as error:  # the other processes end with it
                found = [error]
        (values,) = broadcast_object_list(found)
        if isinstance(values, RunStopped):
            raise values
        table: FloatArray = values
        return table

    def _checked(self, call: Callable[..., T], *arguments: Any) -> T:
        """What a call of rewards gives; one that fails ends the run with a line, and the log has all."""
        try:
            return call(*arguments)
        except (RuntimeError, ValueError) as error:  # foreign code, or what it returned
            logger.info("the reward failed", exc_info=error)
            raise RunStopped(str(error)) from error

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Score the validation videos greedily, split over the processes.

        Returns:
            `eval_srcc`, `eval_plcc` and `eval_rmse` over the videos with a score (NaN where undefined), and
            the numbers of distinct scores, of parse failures, of clipped scores and of unreadable files.

        Raises:
            ValueError: if there is no validation data.
        """
        dataset: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("there is no validation data: give eval_dataset")
        was_training = self.model.training
        self.model.eval()
        found = validate(
            self,
            dataset,
            self.processor,
            self.decoders,
            num_videos=self.args.eval_num_videos,
            max_new_tokens=self.sampling.max_new_tokens,
            think=self.think,
        )
        metric = self.args.metric_for_best_model
        if metric is not None and math.isnan(found[metric]):
            logger.warning("validation's %s is not defined: no checkpoint can be the best by it", metric)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        Trainer.log(self, metrics)  # TRL's own would write the table of training responses again
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.model.train(was_training)
        return metrics

    def _read(self, path: str) -> ReadFile:
        """What a file holds, and where to keep its motion; in worker threads."""
        setting = self.processor.training
        cache = self.motion_cache
        place = cache.place(path) if cache else None
        clip = read_clip(self.decoders, path, setting)
        if isinstance(clip, VideoError):
            return ReadFile(clip)
        if cache and cache.place(path) != place:  # changed meanwhile
            place = None
        return ReadFile(self.processor.pixels(clip.frames, setting.size), place)

    def _log_table(self, batch: AnsweredBatch, records: list[Record]) -> None:
        """Add columns to the table of sample responses."""
        self.log_column("target", [record.target for record in records])
        self.log_column("score", [answers.score(record.text, think=self.think) for record in records])
        if self.perturbations:  # TRL keeps what a column had before where a step gives it nothing
            modes = {key: twin.mode for key, twin in batch.twins.items()}
            self.log_column("perturbation", [modes.get(record.key) for record in records])
            self.log_column("twin", [record.twin_text for record in records])
