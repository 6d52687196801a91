"""Sharded weights outside of the model's forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import Trainer
from trl.models.utils import unwrap_model_for_generation


@contextmanager
def policy_for_rollout(trainer: Trainer) -> Iterator[Any]:
    """The unwrapped policy, its sharded weights gathered, without gradient checkpointing."""
    args: Any = trainer.args
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    with (
        whole_weights(trainer.model_wrapped, reshards=bool(plugin and plugin.reshard_after_forward)),
        unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=getattr(args, "ds3_gather_for_generation", True),  # GRPO's alone
            gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
        ) as policy,
        torch.no_grad(),
        trainer.accelerator.autocast(),
    ):
        yield policy.get_base_model() if hasattr(policy, "get_base_model") else policy


def whole_tensor(weight: Tensor, device: torch.device) -> Tensor:
    """All of a weight of which FSDP2 holds a part; all processes ask for it together."""
    if not isinstance(weight, DTensor):
        return weight
    whole: Tensor = weight.to(device).full_tensor()  # type: ignore[attr-defined]
    return whole


@contextmanager
def whole_weights(model: nn.Module, *, reshards: bool) -> Iterator[None]:
    """Gather all weights of an FSDP2 model, whose parts can then be called apart.

    All processes enter and leave together, and call as often as they like. Nothing happens to other models.

    Args:
        model: the policy as it was sharded, adapters included.
        reshards: whether its layers free what they gathered after a forward pass in training.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    # the first module to be called becomes the root of the sharding, and such a method counts as a call
    model.become_root = MethodType(lambda self: None, model)  # type: ignore[assignment]
    register_fsdp_forward_method(model, "become_root")
    model.become_root()  # type: ignore[operator]
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    model.set_reshard_after_forward(False)
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
        model.set_reshard_after_forward(reshards)
