"""The reference: the policy as it was loaded, and where it waits.

Without adapters it is a model of its own, which may lie in the host's memory and come to its device for the
length of its pass: its weights then add to the memory of that pass, not to the update's. With a new adapter
it is the policy without it; with one that is trained on, TRL keeps a copy of the adapter as it was loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl.trainer import grpo_trainer

REFERENCE_ADAPTER = "ref"  # TRL's name for it


@contextmanager
def reference_as_loaded(policy: Any) -> Iterator[None]:  # noqa: ANN401  with or without an adapter
    """While a TRL trainer is being built: its reference model is a copy of the policy.

    TRL loads it from where the policy's weights came from, which lacks an adapter that was merged into them.
    Under ZeRO-3, whose shards cannot be copied, no adapter is merged.
    """
    if is_deepspeed_zero3_enabled() or hasattr(policy, "get_base_model"):
        yield
        return
    with patch.object(grpo_trainer, "create_model_from_path", lambda path, **options: copy.deepcopy(policy)):
        yield


def save_without_reference(policy: Any) -> None:  # noqa: ANN401
    """Keep TRL's copy of an adapter out of what is saved.

    It would lie in a folder beside the adapter, and a run that resumes would load that folder alone.
    """
    adapters = [name for name in getattr(policy, "peft_config", {}) if name != REFERENCE_ADAPTER]
    if hasattr(policy, "get_base_model") and REFERENCE_ADAPTER in policy.peft_config:
        policy.save_pretrained = partial(policy.save_pretrained, selected_adapters=adapters)


class HostedModel:
    """Moves a frozen model's parameters to the host; buffers stay where they are.

    Args:
        model: the reference model, as DeepSpeed wraps it or bare.
        device: where its forward passes run.

    Raises:
        ValueError: if there is none, or ZeRO-3 shards it.
    """

    def __init__(self, model: nn.Module | None, device: torch.device | str) -> None:
        if model is None:
            raise ValueError("offload_reference: with beta 0 or adapters there is no copy; leave it out")
        if is_deepspeed_zero3_enabled():
            raise ValueError(
                "offload_reference: ZeRO-3 shards the reference model already, and moves the shards to the "
                "host with its own offload_param; leave it out"
            )
        self.device = device
        layers = getattr(model, "module", model).modules()
        self._places = [(layer, *own) for layer in layers for own in layer.named_parameters(recurse=False)]
        for parameter in model.parameters():
            parameter.data = _on_host(parameter.data)

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Lend copies to the device; nothing comes back, since nothing changes them."""
        lent = {
            p: nn.Parameter(p.to(self.device, non_blocking=True), requires_grad=False)
            for _, _, p in self._places
        }
        try:
            for layer, name, parameter in self._places:
                setattr(layer, name, lent[parameter])
            yield
        finally:
            for layer, name, parameter in self._places:
                setattr(layer, name, parameter)


def _on_host(values: torch.Tensor) -> torch.Tensor:
    host = values.to("cpu")
    return host.pin_memory() if values.is_cuda else host
