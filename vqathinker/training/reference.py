"""The reference model in the host's memory, on its device for the length of its pass.

Its weights then add to the memory of that pass, not to the update's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled


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
