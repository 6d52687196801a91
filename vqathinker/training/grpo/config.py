"""Training settings: TRL's own, with the paper's defaults and the few that are ours.

Source of the defaults: VQAThinker (arXiv 2508.06051), Table 6.
"""

from __future__ import annotations

import math
import os
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from trl.trainer.grpo_config import GRPOConfig

from vqathinker.launch.checks import CHOICES, RANGES
from vqathinker.launch.effects import IGNORED
from vqathinker.training.validation import FIGURES, find_metric

CACHE = "VQATHINKER_CACHE"  # the environment variable that moves the cache
NONE = "none"


@dataclass
class TrainingConfig(GRPOConfig):
    """GRPO settings. Every option of TRL's `GRPOConfig` is available; those below differ from its defaults.

    Attributes:
        rewards: names or dotted paths; in a YAML also mappings with `name`, `weight`, `as` and the reward's
            own arguments.
        perturbations: modes of which one is drawn per video and step for its twin; `none` for no twins. None
            are generated either unless a reward asks for them (`needs_perturbed`).
        rehearsal_seconds: time that each reward and perturbation may take before the run, on made-up input; 0
            for no limit.
        packed: compute each group's prompt once. False computes every row on its own.
        packed_attention: how packed rows are computed: "segments" (prefix and branches apart), "dense" (a
            mask over the whole row) or "flex" (FlexAttention's block mask, for CUDA).
        offload_reference: keep the reference model in the host's memory, on the GPU for its pass alone.
        decode_workers: processes that decode videos, ahead of the step that needs them.
        decode_seconds: time that reading one video may take; one that takes longer counts as unreadable.
        motion_cache: folder that keeps SlowFast's features of the training videos; runs may share it.
            `~/.cache/vqathinker/motion` if omitted, or `motion` in the folder that `VQATHINKER_CACHE` names.
        motion_cache_gib: its largest size, 0 to keep none.
        max_unreadable: share of the training videos that may be missing or unreadable before the run stops.
        max_logp_gap: mean difference between the log-probabilities of engine and policy, in nats per token,
            above which the run stops.
        vllm_enforce_eager: let a colocated vLLM start at once; false compiles its model first, which makes
            every step faster. Compiled on a GPU only, if omitted.
        vllm_server_weights: folder for the weights that go to a rollout server, which must see it under the
            same path; `<output_dir>/rollout_weights` if omitted.
        eval_num_videos: most validation videos scored at each evaluation, 0 for all.
    """

    rewards: list[str] = field(default_factory=lambda: ["format", "regression", "ranking", "temporal"])
    perturbations: list[str] = field(
        default_factory=lambda: [
            "global_shuffle", "local_shuffle", "reverse", "jitter", "duplicate", "random_drop",
        ]
    )  # fmt: skip
    rehearsal_seconds: float = 120.0
    packed: bool = True
    packed_attention: str = "segments"
    offload_reference: bool = False
    decode_workers: int = 4
    decode_seconds: float = 60.0
    motion_cache: str | None = None
    motion_cache_gib: float = 1.0
    max_unreadable: float = 0.05
    max_logp_gap: float = 0.5
    vllm_enforce_eager: bool | None = None
    vllm_server_weights: str | None = None
    eval_num_videos: int = 0

    num_generations: int | None = 4
    num_generations_eval: int | None = 1  # validation is greedy
    beta: float = 0.04
    epsilon: float = 0.2
    learning_rate: float = 1e-6
    num_train_epochs: float = 3.0
    max_completion_length: int | None = 2048
    temperature: float = 0.9
    top_p: float = 1.0
    top_k: int = 50
    gradient_accumulation_steps: int = 2
    loss_type: str = "grpo"
    vllm_server_host: str = "localhost"
    vllm_importance_sampling_correction: bool = False  # would change the paper's loss and cost a forward pass
    use_bias_correction_kl: bool = False
    log_multimodal: bool = False
    num_completions_to_print: int | None = 0  # in the terminal; the table on disk holds all
    ddp_broadcast_buffers: bool | None = False  # SlowFast's frozen weights are buffers

    def __post_init__(self) -> None:
        self._refuse_ignored()
        self._choose_metric()
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.perturbations = _listed(self.perturbations)
        if self.motion_cache is None:
            self.motion_cache = str(Path(os.environ.get(CACHE, "~/.cache/vqathinker"), "motion"))
        self.motion_cache = str(Path(self.motion_cache).expanduser())
        self._check_values()
        self._check_engine()
        self._check_batches()

    def _choose_metric(self) -> None:
        """What the best checkpoint is best by: one of validation's numbers, SRCC unless another is named.

        transformers takes the loss, which validation by correlations does not have, and more for better.
        """
        if not (self.load_best_model_at_end or self.save_strategy == "best" or self.metric_for_best_model):
            return
        name = find_metric(self.metric_for_best_model or "srcc")
        self.metric_for_best_model = name
        if self.greater_is_better is None:
            self.greater_is_better = FIGURES[name].more_is_better

    def _check_values(self) -> None:
        """Refuse numbers and words that cannot be."""
        for name, (words, holds) in RANGES.items():
            value = getattr(self, name, None)
            if isinstance(value, int | float) and not holds(value):
                raise ValueError(f"{name}={value}: expected {words}")
        for name, choices in CHOICES["grpo"].items():
            value = getattr(self, name)
            if isinstance(value, str) and value not in choices:
                raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")

    def _check_engine(self) -> None:
        """Refuse settings of an engine that is not chosen, and validation where processes would not meet."""
        colocated = {
            "vllm_enable_sleep_mode": self.vllm_enable_sleep_mode,
            "vllm_enforce_eager": self.vllm_enforce_eager is not None,
        }
        for name, is_set in colocated.items():
            if is_set and not (self.use_vllm and self.vllm_mode == "colocate"):
                raise ValueError(f"{name} needs use_vllm and vllm_mode: colocate; leave it out")
        if self.eval_strategy != "no" and not self.ds3_gather_for_generation:
            raise ValueError(
                "ds3_gather_for_generation: false keeps all processes in step, layer by layer, and "
                "validation does not; leave it out, or eval_strategy"
            )

    def _check_batches(self) -> None:
        """Refuse batches that split a group, and saves that split a generation."""
        assert self.steps_per_generation is not None
        assert self.num_generations is not None
        local = self.per_device_train_batch_size * self.steps_per_generation
        if local % self.num_generations:
            raise ValueError(
                f"per_device_train_batch_size × steps_per_generation = {local} must be a multiple of "
                f"num_generations = {self.num_generations}, so that no group is split between processes"
            )
        cycle = self.steps_per_generation * self.num_iterations
        accumulated = self.gradient_accumulation_steps
        if cycle % accumulated and accumulated % cycle:
            raise ValueError(
                f"gradient_accumulation_steps={accumulated} and steps_per_generation × num_iterations = "
                f"{cycle}: one must be a multiple of the other, so that an epoch ends with both"
            )
        period = self.steps_per_cycle
        saves = self.save_steps if self.save_strategy == "steps" else 0
        if saves >= 1 and saves % period:
            raise ValueError(
                f"save_steps={saves:g}: {period} steps share the responses of one generation; a run that is "
                "resumed between them would generate again and end elsewhere. Give a multiple of "
                f"{period}, e.g. save_steps={period * math.ceil(saves / period)}"
            )

    def _refuse_ignored(self) -> None:
        """Refuse settings of TRL that would do nothing."""
        for option in fields(self):
            reason = IGNORED["grpo"].get(option.name)
            default = option.default if option.default_factory is MISSING else option.default_factory()
            value = getattr(self, option.name)
            value = "no" if value is False and default == "no" else value  # TRL's parser reads it so
            if reason is not None and value != default:
                raise ValueError(f"{option.name}={value!r} has no effect here, {reason}; leave it out")

    @property
    def steps_per_cycle(self) -> int:
        """Optimiser steps after which a generation and an optimiser step end together."""
        assert self.steps_per_generation is not None
        cycle = self.steps_per_generation * self.num_iterations
        return math.lcm(cycle, self.gradient_accumulation_steps) // self.gradient_accumulation_steps

    @property
    def num_videos_per_generation(self) -> int:
        """N, the number of videos in the global generation batch."""
        assert self.generation_batch_size is not None
        assert self.num_generations is not None
        return self.generation_batch_size // self.num_generations


def _listed(value: Any) -> list[Any]:  # noqa: ANN401  what a YAML may hold
    """The perturbations of a YAML or a command line as a list; "none", nothing and an empty name are none."""
    items = value if isinstance(value, list | tuple) else [value]
    named = [item for item in items if item not in (None, "", NONE)]
    if named and NONE in items:
        raise ValueError(f"perturbations={items!r}: {NONE!r} goes with no other")
    return named
