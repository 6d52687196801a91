"""Adapters (LoRA) on their base: put on, handed out merged, merged for good.

An adapter's folder names its base; both together are the policy. W + ΔW is computed in fp32 and rounded once,
beside W: merging in place and taking it back would move a bf16 base a little each time.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

if TYPE_CHECKING:
    from peft import PeftModel

    from vqathinker.model.modeling import VQAThinkerForConditionalGeneration

ADAPTER_WEIGHTS = "adapter_model.safetensors"
Whole = Callable[[Sequence[Tensor]], AbstractContextManager[list[Tensor]]]


def bare(policy: Any) -> VQAThinkerForConditionalGeneration:  # noqa: ANN401  a PeftModel, or none
    """The model of a policy that may have an adapter."""
    return policy.get_base_model() if hasattr(policy, "get_base_model") else policy  # type: ignore[no-any-return]


def put_on(
    model: VQAThinkerForConditionalGeneration,
    adapter: Path,
    *,
    trains: bool = False,
    dropout: float | None = None,
) -> PeftModel:
    """The base with an adapter on it.

    Args:
        model: the adapter's base.
        adapter: its folder.
        trains: whether the adapter's weights shall be trained on.
        dropout: in place of that which it was trained with.

    Raises:
        ValueError: if the tensors of the adapter are not those that its configuration asks for on this base.
    """
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict

    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise ValueError(f"the adapter {adapter} has no {ADAPTER_WEIGHTS}; pickled weights are not read")
    config = PeftConfig.from_pretrained(str(adapter))
    if dropout is not None:
        config.lora_dropout = dropout
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)  # an error below
            adapted = PeftModel.from_pretrained(
                model,
                str(adapter),
                is_trainable=trains,
                config=config,
                # ZeRO-3 wants one precision: as TRL does it
                autocast_adapter_dtype=not is_deepspeed_zero3_enabled(),
            )
    except RuntimeError as error:
        raise ValueError(f"the adapter {adapter} does not fit {model.name_or_path}: {error}") from error
    with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as file:
        stored = set(file.keys())
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    for fault, names in (("lacks", wanted - stored), ("has no place for", stored - wanted)):
        if names:
            raise ValueError(
                f"the adapter {adapter} on {model.name_or_path} {fault} {len(names)} tensors "
                f"such as {min(names)}"
            )
    return adapted


@torch.no_grad()
def merge(adapted: PeftModel) -> VQAThinkerForConditionalGeneration:
    """The model with its adapter in its weights, which may all be trained; the base is changed in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for module in list(adapted.modules()):
        if isinstance(module, BaseTunerLayer):
            layer: Any = module.get_base_layer()
            for name, weight in _merged_layer(module, as_they_are):
                layer.get_parameter(name).copy_(weight)
        elif isinstance(module, ModulesToSaveWrapper):
            module.original_module.load_state_dict(_saved(module).state_dict())
    model: Any = adapted.unload()
    model.requires_grad_(True)
    return model  # type: ignore[no-any-return]


@contextmanager
def as_they_are(weights: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The weights of a model that is not sharded."""
    yield list(weights)


def merged_weights(adapted: PeftModel, whole: Whole = as_they_are) -> Iterator[tuple[str, Tensor]]:
    """Names of the base's weights and their values with the active adapter; nothing of the model changes.

    Args:
        adapted: the policy.
        whole: lends whole tensors of sharded ones; all processes go through all weights.

    Yields:
        A layer's weights are valid until the next layer is asked for.
    """
    yield from _merged(adapted.get_base_model(), "", whole, set())


def _merged(module: nn.Module, prefix: str, whole: Whole, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper
    from peft.utils.other import AuxiliaryTrainingWrapper

    if isinstance(module, BaseTunerLayer):
        for name, weight in _merged_layer(module, whole):
            yield prefix + name, weight
        return
    if isinstance(module, ModulesToSaveWrapper):
        yield from _merged(_saved(module), prefix, whole, seen)
        return
    if isinstance(module, AuxiliaryTrainingWrapper):
        raise ValueError(f"{prefix}: a {type(module).__name__} cannot be merged beside the model")
    for name, parameter in module.named_parameters(recurse=False):
        if id(parameter) not in seen:  # tied weights come once
            seen.add(id(parameter))
            with whole([parameter]) as (weight,):
                yield prefix + name, weight.detach()
    for name, child in module.named_children():
        yield from _merged(child, f"{prefix}{name}.", whole, seen)


def _saved(wrapper: Any) -> nn.Module:  # noqa: ANN401  a ModulesToSaveWrapper
    """The trained copy of a module that an adapter holds whole."""
    (active,) = wrapper.active_adapters
    return wrapper.modules_to_save[active]  # type: ignore[no-any-return]


def _merged_layer(layer: Any, whole: Whole) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401  a tuner's layer
    """The parameters of a layer with its adapters."""
    from peft.tuners.lora import Linear

    own = dict(layer.get_base_layer().named_parameters())
    active = [name for name in layer.active_adapters if name in getattr(layer, "lora_A", ())]
    is_plain = type(layer) is Linear and not any(
        layer.lora_variant.get(name) or layer.lora_bias.get(name) for name in active
    )
    if is_plain:
        factors = [
            weight for name in active for weight in (layer.lora_A[name].weight, layer.lora_B[name].weight)
        ]
        scales = [layer.scaling[name] for name in active]
        with whole([*own.values(), *factors]) as tensors:
            for name, weight in zip(own, tensors, strict=False):
                if name == "weight":
                    weight = _plus_products(weight, tensors[len(own) :], scales, layer.fan_in_fan_out)
                yield name, weight.detach()
        return
    if any(hasattr(weight, "full_tensor") or not weight.numel() for weight in layer.parameters()):
        raise ValueError(
            f"a sharded {type(layer).__name__} of no plain LoRA cannot be merged; use plain LoRA"
        )
    merged = copy.deepcopy(layer).float()
    merged.merge()
    for name, weight in merged.get_base_layer().named_parameters():
        yield name, weight.detach().to(own[name].dtype)


@torch.no_grad()
def _plus_products(
    weight: Tensor, factors: Sequence[Tensor], scales: Sequence[float], is_transposed: bool
) -> Tensor:
    """W + Σ scale · B A in fp32, rounded once to the precision of W."""
    with torch.autocast(weight.device.type, enabled=False):
        total = weight.float()
        for first, second, scale in zip(factors[::2], factors[1::2], scales, strict=True):
            product = second.float() @ first.float()
            total = total + scale * (product.T if is_transposed else product)
        return total.to(weight.dtype)
