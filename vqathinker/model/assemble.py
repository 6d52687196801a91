"""Checkpoints: load a finished one, or put one together from the published parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vqathinker.checkpoints import checkpoint_folder
from vqathinker.model.convert import convert
from vqathinker.model.modeling import VQAThinkerForConditionalGeneration
from vqathinker.model.processing import VQAThinkerProcessor
from vqathinker.prompts import Prompt

PROCESSOR_FILE, ADAPTER_FILE = "processor_config.json", "adapter_config.json"


def load_policy(
    path: str | Path, *, dtype: torch.dtype | str = "auto", **kwargs: Any
) -> tuple[VQAThinkerForConditionalGeneration, VQAThinkerProcessor]:
    """Load model and processor of one checkpoint; a LoRA adapter is merged into its base.

    Args:
        path: a directory written by training or by `assemble`, or the name of such a one on the hub.
        dtype: precision of the weights; SlowFast stays in fp32.
        kwargs: passed on to `from_pretrained`, e.g. `attn_implementation`.

    Raises:
        ValueError: if there is no such checkpoint, it holds no processor or lacks weights.
    """
    path = checkpoint_folder(path)
    if not (path / PROCESSOR_FILE).is_file():
        raise ValueError(
            f"{path} has no {PROCESSOR_FILE}, so frame size, normalisation and prompt are unknown; copy "
            "it from the checkpoint that this one was trained from, or put the parts together with "
            "`vqathinker init`"
        )
    processor = VQAThinkerProcessor.from_pretrained(path)
    if not (path / ADAPTER_FILE).is_file():
        return _load_model(path, dtype=dtype, **kwargs), processor
    from peft import PeftConfig, PeftModel

    base = PeftConfig.from_pretrained(str(path)).base_model_name_or_path
    model = _load_model(base, dtype=dtype, **kwargs)
    return PeftModel.from_pretrained(model, str(path)).merge_and_unload(), processor


def _load_model(path: str | Path, **kwargs: Any) -> VQAThinkerForConditionalGeneration:
    """Load a model; transformers alone would give missing weights random values."""
    loaded: Any = VQAThinkerForConditionalGeneration.from_pretrained(path, output_loading_info=True, **kwargs)
    model, info = loaded
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(f"{path} lacks {len(missing)} weights such as {missing[0]}")
    return model  # type: ignore[no-any-return]


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
