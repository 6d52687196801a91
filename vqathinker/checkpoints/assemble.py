"""Checkpoints: load a finished one, or put one together from the published parts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from vqathinker.checkpoints.adapters import merge, put_on
from vqathinker.checkpoints.convert import convert
from vqathinker.checkpoints.folders import (
    ADAPTER_FILE,
    HOW_TO_MERGE,
    PROCESSOR_FILE,
    base_folder,
    checkpoint_folder,
    is_adapter,
    open_to_others,
)
from vqathinker.checkpoints.storage import REPORT_FILE, appearing, check_free, write_json
from vqathinker.model.modeling import VQAThinkerForConditionalGeneration
from vqathinker.model.processing import VQAThinkerProcessor
from vqathinker.prompts import Prompt

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.getLogger(__name__)

SHARD_SIZE = "5GB"


def load_policy(
    path: str | Path,
    *,
    dtype: torch.dtype | str = "auto",
    base: str | Path | None = None,
    **kwargs: Any,
) -> tuple[VQAThinkerForConditionalGeneration, VQAThinkerProcessor]:
    """Load model and processor of one checkpoint; a LoRA adapter is merged into its base.

    Args:
        path: a directory written by training or by `assemble`, or the name of such a one on the hub.
        dtype: precision of the weights; SlowFast stays in fp32.
        base: where an adapter's base is, if not where the adapter says.
        kwargs: passed on to `from_pretrained`, e.g. `attn_implementation`.

    Raises:
        ValueError: if there is no such checkpoint, it holds no processor or lacks weights, or an adapter's
            base is missing.
    """
    folder = checkpoint_folder(path)
    processor = _load_processor(folder)
    if not is_adapter(folder):
        if base is not None:
            raise ValueError(f"{folder} is no adapter, it has no base; leave the base out")
        return _load_model(folder, dtype=dtype, **kwargs), processor
    if is_deepspeed_zero3_enabled():
        raise ValueError(
            f"{folder} is an adapter, which cannot be merged under ZeRO-3; merge it first "
            f"({HOW_TO_MERGE.format(adapter=folder)}), or train it on (--use_peft true)"
        )
    model = _load_model(base_folder(folder, base), dtype=dtype, **kwargs)
    return merge(put_on(model, folder)), processor


def load_adapted(
    path: str | Path, *, dtype: torch.dtype | str = "auto", dropout: float | None = None, **kwargs: Any
) -> tuple[PeftModel, VQAThinkerProcessor]:
    """Load an adapter on its base, to be trained on, and the processor.

    Args:
        path: the adapter's folder, or its name on the hub.
        dtype: precision of the base's weights.
        dropout: in place of that which the adapter was trained with.
        kwargs: passed on to `from_pretrained`, e.g. `attn_implementation`.

    Raises:
        ValueError: as `load_policy`.
    """
    folder = checkpoint_folder(path)
    processor = _load_processor(folder)
    model = _load_model(base_folder(folder), dtype=dtype, **kwargs)
    return put_on(model, folder, trains=True, dropout=dropout), processor


def merge_adapter(
    adapter: str | Path,
    out: str | Path,
    *,
    base: str | Path | None = None,
    dtype: torch.dtype | str = "auto",
    overwrite: bool = False,
) -> None:
    """Write an adapter and its base as one checkpoint.

    Args:
        adapter: its folder, or its name on the hub.
        out: directory to write; it appears once it is complete.
        base: where the base is, if not where the adapter says.
        dtype: precision of the weights; "auto" is the base's.
        overwrite: whether to replace what an earlier call wrote to `out`.

    Raises:
        ValueError: if it is no adapter, its base is missing, or `out` is not free.
    """
    out = Path(out).resolve()
    check_free(out, overwrite=overwrite)
    folder = checkpoint_folder(adapter)
    if not is_adapter(folder):
        raise ValueError(f"{folder} is no adapter (no {ADAPTER_FILE}); there is nothing to merge")
    found = base_folder(folder, base)
    for part in (folder, found):
        if out.exists() and part.resolve().is_relative_to(out):
            raise ValueError(f"{out} holds {part}; choose another directory")
    model, processor = load_policy(folder, dtype=dtype, base=found)
    with appearing(out, overwrite=overwrite) as temporary:
        model.save_pretrained(temporary, max_shard_size=SHARD_SIZE)
        open_to_others(temporary.glob("*.safetensors"))
        processor.save_pretrained(temporary)
        report = {"adapter": str(folder), "base": str(found)}
        files = sorted([*(path.name for path in temporary.iterdir()), REPORT_FILE])
        write_json(temporary / REPORT_FILE, {**report, "files": files})


def _load_processor(folder: Path) -> VQAThinkerProcessor:
    if not (folder / PROCESSOR_FILE).is_file():
        raise ValueError(
            f"{folder} has no {PROCESSOR_FILE}, so frame size, normalisation and prompt are unknown; copy "
            "it from the checkpoint that this one was trained from, or put the parts together with "
            "`vqathinker init`"
        )
    return VQAThinkerProcessor.from_pretrained(folder)


def _load_model(path: str | Path, **kwargs: Any) -> VQAThinkerForConditionalGeneration:
    """Load a model; transformers alone would give missing weights random values."""
    loaded: Any = VQAThinkerForConditionalGeneration.from_pretrained(path, output_loading_info=True, **kwargs)
    model, info = loaded
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(f"{path} lacks {len(missing)} weights such as {missing[0]}")
    model.generation_config = _that_can_be_saved(model.generation_config, path)
    return model  # type: ignore[no-any-return]


def _that_can_be_saved(own: GenerationConfig, path: str | Path) -> GenerationConfig:
    """A checkpoint's generation settings; only the ids at a response's ends if they contradict one another.

    Transformers loads such settings and refuses to save them, at the first checkpoint of a run.
    """
    try:
        own.validate(strict=True)
    except ValueError as error:
        logger.warning(
            "%s: its generation_config.json is not kept but for the ids that end a response: %s", path, error
        )
        ids = ("eos_token_id", "pad_token_id", "bos_token_id")
        return GenerationConfig(**{name: getattr(own, name) for name in ids})
    return own


def assemble(
    internvl: str,
    slowfast: str | Path | None,
    out: str | Path,
    *,
    motion: str = "slowfast",
    prompt: Prompt | None = None,
    dtype: torch.dtype | str | None = "auto",
    seed: int = 0,
    overwrite: bool = False,
    **frames: int,
) -> None:
    """Write a checkpoint from a published InternVL and a published SlowFast.

    The motion projector starts from random weights.

    Args:
        internvl: directory or hub id, e.g. `OpenGVLab/InternVL3-8B-hf`.
        slowfast: the `SLOWFAST_8x8_R50` checkpoint; None only with motion="none".
        out: directory to write; it appears once it is complete.
        motion: "slowfast", "fast" or "none".
        prompt: replaces the default wording.
        dtype: precision of the written weights; "auto" is the source's.
        seed: of the motion projector.
        overwrite: whether to replace what an earlier call wrote to `out`.
        frames: numbers and sizes of frames, as `VQAThinkerProcessor` takes them.

    Raises:
        ConversionError: if a tensor of the source is unused, missing or mismatched.
        ValueError: if a part is missing or does not fit, or `out` is not free.
    """
    if isinstance(dtype, str):
        dtype = None if dtype == "auto" else getattr(torch, dtype)
    convert(
        internvl,
        out,
        motion=motion,
        slowfast=slowfast,
        prompt=prompt,
        dtype=dtype,
        seed=seed,
        overwrite=overwrite,
        frames=frames,
    )
