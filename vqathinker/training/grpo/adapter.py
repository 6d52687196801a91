"""What touches private names of TRL's trainer; engines and reference have theirs. TRL 1.16.0.

TRL keeps its loss, its advantages and its optimisation; this module turns some of its private methods into
named hooks that work on videos. It knows no rewards and no files.
`tests/test_adapter.py` fails when one of the signatures changes.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import RepeatSampler, split_tensor_dict

from vqathinker.training.grpo.config import TrainingConfig
from vqathinker.training.grpo.engines import SynchronisedEngine, engine_in_place_of_vllm
from vqathinker.training.grpo.gap import check_gap, importance_ratio, measure_gap
from vqathinker.training.grpo.generation import AnsweredBatch, ReadBatch
from vqathinker.training.grpo.reference import HostedModel, reference_as_loaded, save_without_reference
from vqathinker.training.grpo.rows import (
    EpochOrder,
    Row,
    VideoInputs,
    arrange,
    group_numbers,
    take,
)
from vqathinker.training.packing import PackedGroups, pack, whole_groups

FLEX_MULTIPLE = 128  # positions of a block of FlexAttention


@dataclass
class Generating:
    """A generation batch while TRL generates and scores: read, then answered too."""

    batch: ReadBatch
    answered: AnsweredBatch | None = None

    @property
    def videos(self) -> list[VideoInputs]:
        """The inputs of each row."""
        assert self.answered is not None
        return self.answered.videos


@dataclass
class Updating:
    """A micro-batch while TRL computes its loss, and then the policy's (B, C) log-probabilities."""

    inputs: dict[str, Any]
    policy_logps: Tensor | None = None

    @property
    def videos(self) -> list[VideoInputs]:
        """The inputs of each row."""
        videos: list[VideoInputs] = self.inputs["videos"]
        return videos


Work = TypeVar("Work", Generating, Updating)


class GRPOAdapter(GRPOTrainer, ABC):
    """TRL's GRPO trainer with hooks for videos instead of its private methods."""

    args: TrainingConfig
    model: nn.Module
    num_generations: int
    _buffered_inputs: Any
    _work: Generating | Updating | None = None  # while a method of TRL runs that calls ours without it
    hosted_reference: HostedModel | None = None

    def __init__(self, **kwargs: Any) -> None:
        reference = reference_as_loaded(kwargs["model"])
        with warnings.catch_warnings(), engine_in_place_of_vllm(self.make_engine), reference:
            warnings.filterwarnings("ignore", "You are using 'rollout_func'", UserWarning)
            super().__init__(rollout_func=self._rollout, **kwargs)
        save_without_reference(self.model)
        # called when rows are fetched, which is before they are needed
        self.data_collator = self._collate  # type: ignore[assignment]
        self._num_fetched: int | None = None

    # The hooks

    @abstractmethod
    def announce(self, rows: list[Row]) -> None:
        """Take note of the local rows of the generation batch after those that are known already."""

    @abstractmethod
    def read_batch(self, rows: list[Row]) -> ReadBatch:
        """Read what the local rows of a generation batch need, before anything is generated."""

    @abstractmethod
    def make_engine(self) -> SynchronisedEngine:
        """Start the engine of `use_vllm`; called while the trainer is being built."""

    @abstractmethod
    def respond(self, batch: ReadBatch) -> AnsweredBatch:
        """Generate one response per row."""

    @abstractmethod
    def reward_rows(self, batch: AnsweredBatch, texts: list[str]) -> Tensor:
        """Return (all processes' rows, rewards); a row of NaN is left out of the baseline and the loss."""

    # What the hooks may use

    def log_metric(self, name: str, value: float) -> None:
        """Average a value into the next log entry, which is the main process's."""
        self._metrics["train" if self.model.training else "eval"][name].append(value)

    def log_column(self, name: str, values: list[Any]) -> None:
        """Add a column to the table of sample responses, one value per local row."""
        self._log_completion_extra(name, values)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Log the seconds that a phase took."""
        start = time.perf_counter()
        yield
        self.log_metric(f"seconds/{phase}", time.perf_counter() - start)

    @property
    def own_engine(self) -> SynchronisedEngine | None:
        """The engine of `use_vllm`, None without it."""
        return self.vllm_generation.engine if self.use_vllm else None  # type: ignore[attr-defined]

    # TRL's side

    def _get_train_sampler(self, dataset: Any = None) -> EpochOrder:  # noqa: ANN401  the training data
        sampler = super()._get_train_sampler(dataset)
        assert isinstance(sampler, RepeatSampler)
        return EpochOrder(sampler, self.args.seed, lambda: self.state.epoch or 0.0)

    def _collate(self, rows: list[Row]) -> list[Row]:
        """Announce the rows; they are fetched once for every micro-batch, but only the first time counts."""
        is_first = self._num_fetched is None
        number = self._num_done if self._num_fetched is None else self._num_fetched
        if is_first or number % self._generate_every == 0:
            self.announce(rows)
        self._num_fetched = number + 1
        return rows

    def _rollout(self, prompts: list[Any], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        work = self._work
        assert isinstance(work, Generating)
        work.answered = self.respond(work.batch)
        responses = work.answered.responses
        assert len(responses) == len(prompts)
        return {
            "prompt_ids": [r.prompt_ids for r in responses],
            "completion_ids": [r.token_ids for r in responses],
            "logprobs": [r.logprobs for r in responses],
        }

    def _generate_and_score_completions(self, inputs: list[Row]) -> dict[str, Any]:
        with self._without_redundant_pass(), self.at_work(Generating(self.read_batch(inputs))) as work:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        output["videos"] = work.videos
        output["rollout_step"] = torch.tensor(self.state.global_step)  # of the weights that generated
        # what could not be read teaches nothing
        mask = output["completion_mask"]
        skipped = torch.tensor([video.skipped for video in work.videos], device=mask.device)
        output["completion_mask"] = mask.masked_fill(skipped[:, None], 0)
        output["num_items_in_batch"] = self.accelerator.gather(output["completion_mask"].sum()).sum()
        return output

    @contextmanager
    def at_work(self, work: Work) -> Iterator[Work]:
        """Have the methods that TRL calls meanwhile know what they are called for."""
        assert self._work is None
        self._work = work
        try:
            yield work
        finally:
            self._work = None

    @contextmanager
    def _without_redundant_pass(self) -> Iterator[None]:
        """Keep TRL from computing log-probabilities that the update computes anyway.

        Within one optimiser step the old policy is the policy; its importance ratio follows in the update.
        """
        corrects = self.vllm_importance_sampling_correction
        if self._is_on_policy:
            self.vllm_importance_sampling_correction = False
        try:
            yield
        finally:
            self.vllm_importance_sampling_correction = corrects

    @property
    def _generate_every(self) -> int:
        """Micro-batches per generation."""
        assert self.args.steps_per_generation is not None
        return self.args.steps_per_generation * self.num_iterations

    @property
    def _num_done(self) -> int:
        """Micro-batches of the optimiser steps so far, those before a resume included."""
        return int(self.state.global_step) * self.args.gradient_accumulation_steps

    @property
    def _is_on_policy(self) -> bool:
        return self.args.gradient_accumulation_steps % self._generate_every == 0

    def _calculate_rewards(
        self,
        inputs: list[Row],
        prompts: list[Any],
        completions: list[str],
        completion_ids_list: list[list[int]],
    ) -> Tensor:
        work = self._work
        assert isinstance(work, Generating)
        assert work.answered is not None
        return self.reward_rows(work.answered, completions).to(self.accelerator.device, torch.float32)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:  # noqa: ANN401  a list of rows
        """As TRL's, but the rows are arranged by groups over the micro-batches."""
        num_parts = self.args.steps_per_generation
        assert num_parts is not None
        if self._buffered_inputs is None:  # TRL's own count starts again after a resume
            self._step = self._num_done
        if self._step % self._generate_every == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            # the global step goes on after a resume, TRL's own count starts again
            generator = torch.Generator().manual_seed(self.args.seed + self.state.global_step)
            # a group's prompt counts once
            num_tokens = batch["completion_mask"].sum(1) + batch["prompt_mask"].sum(1) / self.num_generations
            per_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
            order = arrange(group_numbers(batch["videos"]), num_tokens, per_step, generator)
            shuffled = {key: take(values, order) for key, values in batch.items()}
            self._buffered_inputs = split_tensor_dict(shuffled, num_parts)
        current: dict[str, Any] = self._buffered_inputs[self._step % num_parts]
        return current

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        with self.at_work(Updating(inputs)) as work:
            loss: Tensor = super()._compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        assert work.policy_logps is not None
        self._log_rollout_gap(inputs, work.policy_logps)
        return loss

    def _log_rollout_gap(self, inputs: Mapping[str, Any], policy_logps: Tensor) -> None:
        """Log how far the engine's log-probabilities are from the policy's, over all tokens."""
        local = measure_gap(policy_logps, inputs["sampling_per_token_logps"], inputs["completion_mask"])
        everyone = self.accelerator.gather(local).view(-1, 3)
        total, count = everyone[:, :2].sum(dim=0).tolist()
        if count:
            if self.own_engine is not None and inputs["rollout_step"] == self.state.global_step:
                check_gap(total / count, self.args.max_logp_gap)
            self.log_metric("sampling/logp_gap_mean", total / count)
            self.log_metric("sampling/logp_gap_max", everyone[:, 2].max().item())

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **vision: object,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Log-probabilities and entropies of (B, C) completion tokens, each group's prompt computed once.

        Parts of `batch_size` rows are extended to whole groups.
        """
        work = self._work
        assert work is not None
        videos = work.videos
        size = batch_size or len(input_ids)
        parts = whole_groups(self._groups(videos), size)
        logps = []
        entropies = []
        # the reference may be kept in the host's memory
        lent = self.hosted_reference if model is self.ref_model else None
        with nullcontext() if lent is None else lent.on_device():
            for part in parts:
                packed, output = self._packed_forward(
                    model, input_ids[part], attention_mask[part], logits_to_keep, videos[part]
                )
                shape = (len(input_ids[part]), logits_to_keep)
                logps.append(packed.unpack(output.log_probs, shape))
                if compute_entropy:
                    entropies.append(packed.unpack(output.entropy, shape))
        if not compute_entropy:
            return torch.cat(logps), None, None
        # TRL's loss asks for the entropy of the policy alone: these are its log-probabilities
        if isinstance(work, Updating):
            work.policy_logps = torch.cat(logps).detach()
            if self.use_vllm and self.vllm_importance_sampling_correction and self._is_on_policy:
                self._correct(work.inputs, work.policy_logps)
        return torch.cat(logps), torch.cat(entropies), None

    def _correct(self, inputs: dict[str, Any], policy_logps: Tensor) -> None:
        """Give TRL's loss the ratio of policy to engine for each token, or each response."""
        mask = inputs["completion_mask"]
        ratio = importance_ratio(policy_logps, inputs["sampling_per_token_logps"], mask, self.args)
        inputs["importance_sampling_ratio"] = ratio
        each = ratio[mask.bool()] if ratio.shape == mask.shape else ratio
        self.log_metric("sampling/importance_sampling_ratio/mean", each.mean().item())

    def _groups(self, videos: Sequence[VideoInputs]) -> list[int]:
        """Which rows share a prompt; none do unless they are packed."""
        return group_numbers(videos) if self.args.packed else list(range(len(videos)))

    def _packed_forward(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        num_tokens: int,
        videos: Sequence[VideoInputs],
    ) -> tuple[PackedGroups, Any]:
        packed = pack(
            input_ids,
            attention_mask,
            num_tokens,
            self._groups(videos),
            self._tokenizer.pad_token_id,
            multiple=FLEX_MULTIPLE if self.args.packed_attention == "flex" else 1,
        )
        with self.accelerator.autocast():
            output = model(
                input_ids=packed.input_ids,
                position_ids=packed.position_ids,
                segments=packed.segments,
                packed_attention=self.args.packed_attention,
                placeholders=packed.prefix,
                **VideoInputs.together([videos[i] for i in packed.first_rows]),
                shift_labels=packed.shift_labels,
                fused_lm_head=True,
            )
        return packed, output
