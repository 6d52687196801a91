"""The reference model in the host's memory, on its device for the length of a forward pass.

The copy is read once per generation, while neither gradients nor activations of the update exist, so that its
weights do not add to the update's peak.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled


def keep_on_host(model: nn.Module | None, device: torch.device | str) -> None:
    """Move a frozen model's parameters to the host and let each forward pass borrow them to a device.

    Nothing is copied back, since nothing changes them. Buffers stay where they are.

    Args:
        model: the reference model, as DeepSpeed wraps it or bare.
        device: where its forward passes run.

    Raises:
        ValueError: if there is none, or ZeRO-3 shards it.
    """
    if model is None:
        raise ValueError("offload_reference: with beta 0 or adapters there is no copy; leave it out")
    if is_deepspeed_zero3_enabled():
        raise ValueError(
            "offload_reference: ZeRO-3 shards the reference model already, and moves the shards to the host "
            "with its own offload_param; leave it out"
        )
    model = getattr(model, "module", model)
    places = [
        (layer, name, p) for layer in model.modules() for name, p in layer.named_parameters(recurse=False)
    ]
    for parameter in model.parameters():
        parameter.data = _on_host(parameter.data)

    def fetch(*_: Any) -> None:
        lent = {p: nn.Parameter(p.to(device, non_blocking=True), requires_grad=False) for _, _, p in places}
        for layer, name, parameter in places:
            setattr(layer, name, lent[parameter])

    def release(*_: Any) -> None:
        for layer, name, parameter in places:
            setattr(layer, name, parameter)

    model.register_forward_pre_hook(fetch)
    model.register_forward_hook(release, always_call=True)


def _on_host(values: torch.Tensor) -> torch.Tensor:
    host = values.to("cpu")
    return host.pin_memory() if values.is_cuda else host
