"""A short name for a model's weights: the same for every copy, another one after a training step."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from vqathinker.model.modeling import VQAThinkerForConditionalGeneration
from vqathinker.model.processing import VQAThinkerProcessor

VALUES_PER_TENSOR = 4096


def fingerprint(model: VQAThinkerForConditionalGeneration, processor: VQAThinkerProcessor) -> str:
    """Return 16 hexadecimal digits of `weights_digest` with vocabulary and chat template."""
    digest = weights_digest(model)
    digest.update(repr(sorted(processor.tokenizer.get_vocab().items())).encode())
    digest.update(str(processor.tokenizer.chat_template).encode())
    return digest.hexdigest()[:16]


@torch.no_grad()
def weights_digest(module: nn.Module) -> hashlib._Hash:
    """A SHA-256 over the weights and buffers of a module.

    Of every tensor it reads the name, the shape, the type and up to 4,096 evenly spaced values, as loaded: a
    LoRA adapter counts with its base, the folder and its file layout do not.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.flatten()
        values = values[:: max(1, -(-values.numel() // VALUES_PER_TENSOR))].cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest
