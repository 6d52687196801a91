"""Everything here that touches a private name of TRL. Read against TRL 1.16.0.

TRL keeps its loss, its advantages and its optimisation; this module turns some of its private methods into
named hooks that work on videos. It knows no rewards and no files.
`tests/test_adapter.py` fails when one of the signatures changes.
"""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import RepeatSampler, split_tensor_dict

from vqathinker.training.checks import check_gap
from vqathinker.training.config import TrainingConfig
from vqathinker.training.engines import SynchronisedEngine, engine_in_place_of_vllm
from vqathinker.training.packing import PackedGroups, pack, shuffle_groups

Row = dict[str, Any]


@dataclass(frozen=True)
class RowResponse:
    """What one row of the generation batch produced.

    Attributes:
        prompt_ids: token ids with expanded placeholders.
        token_ids: the response.
        logprobs: one per token, at the sampling temperature.
        twin_text: the response to the perturbed copy, None without twins.
    """

    prompt_ids: Sequence[int]
    token_ids: Sequence[int]
    logprobs: Sequence[float]
    twin_text: str | None = None


@dataclass(frozen=True, eq=False)
class VideoInputs:
    """What a forward pass needs of one video: pixels (T, 3, S, S) and motion features (M, motion_dim)."""

    pixels: Tensor
    motion_features: Tensor
    skipped: bool = False


class EpochOrder(Sampler[int]):
    """TRL's sampler, shuffled by seed and epoch alone, so that a resumed run goes on with the same videos.

    Args:
        sampler: repeats the rows of a batch; its own generator starts again with every process.
        seed: of the run.
        epoch: tells how many epochs have passed.
    """

    def __init__(self, sampler: RepeatSampler, seed: int, epoch: Callable[[], float]) -> None:
        self.sampler, self.seed, self.epoch = sampler, seed, epoch

    def __iter__(self) -> Iterator[int]:
        if self.sampler.shuffle:
            whole_epochs = int(self.epoch() + 1e-6)  # a sum of fractions
            self.sampler.generator.manual_seed(self.seed + whole_epochs)
        yield from self.sampler

    def __len__(self) -> int:
        return len(self.sampler)


class GRPOAdapter(GRPOTrainer, ABC):
    """TRL's GRPO trainer with hooks for videos instead of its private methods."""

    args: TrainingConfig
    model: nn.Module
    num_generations: int
    _buffered_inputs: Any
    _rows: list[Row]
    _videos: list[VideoInputs]
    _policy_logps: Tensor | None = None
    _rollout_step: int  # of the weights that generated

    def __init__(self, **kwargs: Any) -> None:
        with warnings.catch_warnings(), engine_in_place_of_vllm(self.make_engine):
            warnings.filterwarnings("ignore", "You are using 'rollout_func'", UserWarning)
            super().__init__(rollout_func=self._rollout, **kwargs)

    # The hooks

    @abstractmethod
    def begin_batch(self, rows: list[Row]) -> None:
        """Read what the local rows of a generation batch need, before anything is generated."""

    @abstractmethod
    def make_engine(self) -> SynchronisedEngine:
        """Start the engine of `use_vllm`; called while the trainer is being built."""

    @abstractmethod
    def respond(self, rows: list[Row]) -> list[RowResponse]:
        """Generate one response per row."""

    @abstractmethod
    def video_inputs(self, rows: list[Row]) -> list[VideoInputs]:
        """The video of each row; rows of one group share one object."""

    @abstractmethod
    def reward_rows(self, rows: list[Row], texts: list[str]) -> Tensor:
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

    @contextmanager
    def policy_for_rollout(self) -> Iterator[Any]:
        """The unwrapped policy, its sharded weights gathered, without gradient checkpointing."""
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,  # type: ignore[arg-type]
            ) as policy,
            torch.no_grad(),
            self.accelerator.autocast(),
        ):
            yield policy.get_base_model() if hasattr(policy, "get_base_model") else policy

    @property
    def own_engine(self) -> SynchronisedEngine | None:
        """The engine of `use_vllm`, None without it."""
        return self.vllm_generation.engine if self.use_vllm else None  # type: ignore[attr-defined]

    # TRL's side

    def _get_train_sampler(self, dataset: Any = None) -> EpochOrder:  # noqa: ANN401  the training data
        sampler = super()._get_train_sampler(dataset)
        assert isinstance(sampler, RepeatSampler)
        return EpochOrder(sampler, self.args.seed, lambda: self.state.epoch or 0.0)

    def _rollout(self, prompts: list[Any], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        responses = self.respond(self._rows)
        self._videos = self.video_inputs(self._rows)
        assert len(responses) == len(prompts)
        return {
            "prompt_ids": [r.prompt_ids for r in responses],
            "completion_ids": [r.token_ids for r in responses],
            "logprobs": [r.logprobs for r in responses],
            "twin_text": [r.twin_text for r in responses],
        }

    def _generate_and_score_completions(self, inputs: list[Row]) -> dict[str, Any]:
        self._rows = inputs
        self.begin_batch(inputs)
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        self._rollout_step = self.state.global_step
        output["videos"] = self._videos
        mask = output["completion_mask"]
        skipped = torch.tensor([video.skipped for video in self._videos], device=mask.device)
        output["completion_mask"] = mask.masked_fill(skipped[:, None], 0)
        return output

    def _calculate_rewards(
        self,
        inputs: list[Row],
        prompts: list[Any],
        completions: list[str],
        completion_ids_list: list[list[int]],
    ) -> Tensor:
        return self.reward_rows(inputs, completions).to(self.accelerator.device, torch.float32)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:  # noqa: ANN401  a list of rows
        """As TRL's, but groups stay together when the rows are shuffled over the micro-batches."""
        num_parts = self.args.steps_per_generation
        assert num_parts is not None
        if self._step % (num_parts * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            # the global step goes on after a resume, TRL's own count starts again
            generator = torch.Generator().manual_seed(self.args.seed + self.state.global_step)
            order = shuffle_groups(_group_numbers(batch["videos"]), generator)
            shuffled = {key: _take(values, order) for key, values in batch.items()}
            self._buffered_inputs = split_tensor_dict(shuffled, num_parts)
        current: dict[str, Any] = self._buffered_inputs[self._step % num_parts]
        return current

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        self._videos = inputs["videos"]
        loss: Tensor = super()._compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        self._log_rollout_gap(inputs)
        return loss

    def _log_rollout_gap(self, inputs: Mapping[str, Any]) -> None:
        """Log how far the engine's log-probabilities are from the policy's, over all tokens."""
        assert self._policy_logps is not None
        sampled, mask = inputs["sampling_per_token_logps"], inputs["completion_mask"].bool()
        gap = (self._policy_logps - sampled).abs()[mask & ~sampled.isnan()]
        largest = gap.max() if len(gap) else gap.new_zeros(())
        local = torch.stack([gap.sum(), gap.new_tensor(float(len(gap))), largest])
        everyone = self.accelerator.gather(local).view(-1, 3)
        total, count = everyone[:, :2].sum(dim=0).tolist()
        if count:
            if self.own_engine is not None and self._rollout_step == self.state.global_step:
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
        """Log-probabilities and entropies of (B, C) completion tokens, each group's prompt computed once."""
        size = batch_size or len(input_ids)
        logps, entropies = [], []
        for start in range(0, len(input_ids), size):
            part = slice(start, start + size)
            packed, output = self._packed_forward(
                model, input_ids[part], attention_mask[part], logits_to_keep, self._videos[part]
            )
            shape = (len(input_ids[part]), logits_to_keep)
            logps.append(packed.unpack(output.log_probs, shape))
            if compute_entropy:
                entropies.append(packed.unpack(output.entropy, shape))
        if not compute_entropy:
            return torch.cat(logps), None, None
        self._policy_logps = torch.cat(logps).detach()
        return torch.cat(logps), torch.cat(entropies), None

    def _packed_forward(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        num_tokens: int,
        videos: Sequence[VideoInputs],
    ) -> tuple[PackedGroups, Any]:
        groups = _group_numbers(videos) if self.args.packed else range(len(videos))
        packed = pack(input_ids, attention_mask, num_tokens, list(groups), self._tokenizer.pad_token_id)
        seen = [videos[i] for i in packed.first_rows]
        with self.accelerator.autocast():
            output = model(
                input_ids=packed.input_ids,
                position_ids=packed.position_ids,
                attention_mask=packed.attention_mask,
                placeholders=packed.prefix,
                pixel_values=torch.cat([video.pixels for video in seen]),
                motion_features=torch.stack([video.motion_features for video in seen]),
                shift_labels=packed.shift_labels,
                fused_lm_head=True,
            )
        return packed, output


def _group_numbers(videos: Sequence[VideoInputs]) -> list[int]:
    """Rows that share a video object share a number, counted in order of appearance."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(id(video), len(numbers)) for video in videos]


def _take(values: Any, order: Tensor) -> Any:  # noqa: ANN401  tensors, lists and what TRL may add
    """Rows in another order; scalars stay."""
    if isinstance(values, Tensor):
        return values if values.ndim == 0 else values[order.to(values.device)]
    return [values[int(i)] for i in order] if isinstance(values, list) else values
