"""The engines of `use_vllm` in TRL's place for vLLM. Read against TRL 1.16.0.

TRL still decides when weights are synchronised and gathers sharded ones; adapters are handed out merged and
the policy stays as it is. TRL's own generation is never called. `tests/test_adapter.py` fails when one of the
names changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

from accelerate.utils import gather_object, is_peft_model
from torch import Tensor
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import ensure_master_addr_port

from vqathinker.checkpoints.adapters import merged_weights
from vqathinker.model import VQAThinkerProcessor
from vqathinker.rollout import Response, RolloutEngine, RolloutRequest, Sampling
from vqathinker.rollout.vllm import VLLMEngine
from vqathinker.rollout.vllm_server import RolloutServerError, ServerEngine
from vqathinker.training.grpo.config import TrainingConfig
from vqathinker.training.sharding import whole_tensor


class SynchronisedEngine(RolloutEngine, Protocol):
    """An engine with weights of its own."""

    def synchronise(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the weights and forget everything computed with the old ones."""
        ...


@contextmanager
def engine_in_place_of_vllm(make: Callable[[], SynchronisedEngine]) -> Iterator[None]:
    """While a TRL trainer is being built: its `vllm_generation` becomes one with the attribute `engine`."""

    class Ours(VLLMGeneration):
        def _init_vllm(self) -> None:
            # what vLLM's external launcher reads
            os.environ["RANK"] = str(self.accelerator.process_index)
            os.environ["LOCAL_RANK"] = str(self.accelerator.local_process_index)
            os.environ["WORLD_SIZE"] = str(self.accelerator.num_processes)
            ensure_master_addr_port()
            self.engine = make()
            self.error: RolloutServerError | None = None
            self.accelerator.wait_for_everyone()

        def _iter_named_params(self) -> Iterator[tuple[str, Tensor]]:
            model: Any = self.model
            if not is_peft_model(model):
                yield from super()._iter_named_params()  # type: ignore[no-untyped-call]
                return
            # TRL's would merge into the weights and take it back, which rounds them anew every time
            for name, weight in merged_weights(model, self._whole):
                yield self._fix_param_name_to_vllm(name), weight

        @contextmanager
        def _whole(self, weights: Sequence[Tensor]) -> Iterator[list[Tensor]]:
            with self._dist.gather_params(list(weights)):
                yield [whole_tensor(weight, self.accelerator.device) for weight in weights]

        def sync_weights(self) -> None:
            try:
                self.engine.synchronise(self._iter_named_params())
            except RolloutServerError as error:
                self.error = error  # `generate_or_stop` tells all processes
            self.accelerator.wait_for_everyone()

    with patch.object(grpo_trainer, "VLLMGeneration", Ours):
        yield


def make_engine(
    args: TrainingConfig,
    processor: VQAThinkerProcessor,
    model: Any,  # noqa: ANN401  the policy, with an adapter or without
    *,
    prompt_length: int,
    draws_twins: bool,
    process_index: int,
) -> SynchronisedEngine:
    """The engine of `vllm_mode` for a trainer that is being built.

    Args:
        args: the settings.
        processor: the checkpoint's.
        model: the policy.
        prompt_length: tokens of the longest prompt.
        draws_twins: whether perturbed copies are answered too.
        process_index: of this process.
    """
    if args.vllm_mode == "server":
        return ServerEngine(
            args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}",
            model.config,
            processor,
            weights_folder=args.vllm_server_weights or Path(str(args.output_dir), "rollout_weights"),
            start_within=args.vllm_server_timeout,
            sends_weights=process_index == 0,
        )
    num_rows = args.per_device_train_batch_size * (args.steps_per_generation or 1)
    return VLLMEngine(
        str(model.name_or_path),
        processor,
        max_length=args.vllm_max_model_length or prompt_length + (args.max_completion_length or 0),
        max_sequences=num_rows * (2 if draws_twins else 1),
        gpu_memory_utilization=args.vllm_gpu_memory_utilization,
        seed=args.seed + process_index,
        enforce_eager=args.vllm_enforce_eager,
        sleeps=args.vllm_enable_sleep_mode,
        dtype="bfloat16" if args.bf16 else model.dtype,
    )


def generate_or_stop(
    trainer: GRPOTrainer, requests: Sequence[RolloutRequest], num_responses: int, sampling: Sampling
) -> list[list[Response]]:
    """Generate with the trainer's own engine; if a server fails one process, all save a checkpoint and stop.

    Raises:
        RolloutServerError: saying what the server lacks and how to go on.
    """
    generation: Any = trainer.vllm_generation
    error = generation.error
    responses = []
    if error is None:
        try:
            responses = generation.engine.generate(requests, num_responses, sampling)
        except RolloutServerError as found:
            error = found
    messages = [message for message in gather_object([error and str(error)]) if message]
    if not messages:
        return responses
    step = trainer.state.global_step
    if step:
        trainer._save_checkpoint(trainer.model, trial=None)  # type: ignore[no-untyped-call]
    kept = f"checkpoint-{step} is saved" if step else "no step was finished"
    raise RolloutServerError(
        f"{messages[0]}; {kept}, --resume_from_checkpoint true goes on from the last one"
    )
