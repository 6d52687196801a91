"""TRL's place for vLLM, taken by a rollout engine of ours. Read against TRL 1.16.0.

TRL still decides when weights are synchronised, gathers sharded ones and merges adapters; its own generation
is never called. `tests/test_adapter.py` fails when one of the names changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol
from unittest.mock import patch

from torch import Tensor
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer
from trl.trainer.utils import ensure_master_addr_port

from vqathinker.rollout import RolloutEngine


class SynchronisedEngine(RolloutEngine, Protocol):
    """An engine with weights of its own."""

    def synchronise(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the weights and forget everything computed with the old ones."""
        ...


@contextmanager
def engine_in_place_of_vllm(make: Callable[[], SynchronisedEngine]) -> Iterator[None]:
    """While a TRL trainer is being built: its `vllm_generation` becomes one with the attribute `engine`."""

    class Colocated(VLLMGeneration):
        def _init_vllm(self) -> None:
            # what vLLM's external launcher reads
            os.environ["RANK"] = str(self.accelerator.process_index)
            os.environ["LOCAL_RANK"] = str(self.accelerator.local_process_index)
            os.environ["WORLD_SIZE"] = str(self.accelerator.num_processes)
            ensure_master_addr_port()
            self.engine = make()
            self.accelerator.wait_for_everyone()

        def sync_weights(self) -> None:
            self.engine.synchronise(self._iter_named_params())  # type: ignore[no-untyped-call]

    with patch.object(grpo_trainer, "VLLMGeneration", Colocated):
        yield
