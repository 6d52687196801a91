"""Which parts of a model are trained, and how fast each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peft import PeftModel
from torch import nn
from torch.optim import Optimizer
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from vqathinker.launch.stages import PARTS
from vqathinker.model import VQAThinkerForConditionalGeneration

HEAD = "lm_head"  # belongs to the language model
FAST = "fast"


def part_of(name: str) -> str:
    """The part that a weight belongs to.

    Args:
        name: of the weight, whatever wraps the model.

    >>> part_of("model.multi_modal_projector.linear_1.weight"), part_of("lm_head.weight")
    ('vision_projector', 'language_model')
    """
    modules = name.split(".")
    found = [part for part, module in PARTS.items() if module in modules]
    if not found:
        assert HEAD in modules, f"the weight {name} belongs to no part"
        return "language_model"
    return found[0]


def freeze_others(
    model: VQAThinkerForConditionalGeneration | PeftModel, parts: Sequence[str], *, adapts: bool = False
) -> None:
    """Train these parts alone; SlowFast becomes one that can be trained where it is among them.

    Args:
        model: whose parts they are.
        parts: their names.
        adapts: whether an adapter is trained.

    Raises:
        ValueError: if the model lacks one of them, an adapter is trained, or SlowFast under ZeRO-3.
    """
    if adapts:
        raise ValueError("parts are trained whole, an adapter is not: leave out parts or use_peft")
    for part in parts:
        if not hasattr(model.model, PARTS[part]):
            raise ValueError(f"parts: the model has no {part} (its motion is {model.config.motion!r})")
    if "slowfast" in parts:
        if is_deepspeed_zero3_enabled():
            raise ValueError("parts: ZeRO-3 would split SlowFast's weights, which learn whole; use zero2")
        model.model.slowfast.unfreeze(fast=model.config.motion == FAST)
    for name, weight in model.named_parameters():
        weight.requires_grad_(part_of(name) in parts)


def set_rates(optimizer: Optimizer, model: nn.Module, rates: Mapping[str, float]) -> None:
    """Give the weights of each part their learning rate, each group of the optimizer in parts."""
    part = {id(weight): part_of(name) for name, weight in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        for name, rate in rates.items():
            weights = [weight for weight in group["params"] if part[id(weight)] == name]
            if weights:
                groups.append({**group, "params": weights, "lr": rate})
    optimizer.param_groups = groups
