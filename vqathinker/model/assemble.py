"""Checkpoints: load a finished one, or put one together from the published parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, InternVLConfig, InternVLForConditionalGeneration

from vqathinker.checkpoints import checkpoint_folder
from vqathinker.model.modeling import VQAThinkerConfig, VQAThinkerForConditionalGeneration
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
    slowfast_depth: int = 50,
    slowfast_stem_dim: int = 64,
    prompt: Prompt | None = None,
    dtype: torch.dtype | str = "auto",
    seed: int = 0,
    overwrite: bool = False,
    **processor_options: Any,
) -> None:
    """Write a checkpoint from a published InternVL in the Hugging Face format and a SlowFast file.

    The motion projector starts from random weights.

    Args:
        internvl: directory or hub id, e.g. `OpenGVLab/InternVL3-8B-hf`.
        slowfast: the `SLOWFAST_8x8_R50` checkpoint; None only with motion="none".
        out: directory to write.
        motion: "slowfast", "fast" or "none".
        slowfast_depth: depth of the network in the SlowFast file.
        slowfast_stem_dim: channels of its slow stem.
        prompt: replaces the default wording.
        dtype: precision of the written weights.
        seed: of the motion projector.
        overwrite: whether `out` may hold files already.
        processor_options: frames and sizes, as `VQAThinkerProcessor` takes them.

    Raises:
        ValueError: if a part is missing or does not fit.
    """
    _check_request(Path(out), motion, slowfast, overwrite)
    internvl = str(checkpoint_folder(internvl))
    values = _internvl_values(internvl)
    processor = VQAThinkerProcessor(
        AutoTokenizer.from_pretrained(internvl),
        motion=motion,
        prompt=prompt.to_dict() if prompt else None,
        **processor_options,
    )
    config = VQAThinkerConfig(
        **values,
        motion=motion,
        motion_token_id=processor.placeholder_ids[1],
        slowfast_depth=slowfast_depth,
        slowfast_stem_dim=slowfast_stem_dim,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _with_weights_of(internvl, config, dtype)
    if slowfast is not None and motion != "none":
        model.model.slowfast.load_published(slowfast)
    model.save_pretrained(out)
    processor.save_pretrained(out)


def _check_request(out: Path, motion: str, slowfast: str | Path | None, overwrite: bool) -> None:
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise ValueError(f"{out} is not empty; choose another directory or overwrite it (--overwrite)")
    if motion != "none" and slowfast is None:
        raise ValueError(
            f"motion={motion!r} needs a SlowFast checkpoint (SLOWFAST_8x8_R50.pyth of pytorchvideo)"
        )


def _internvl_values(internvl: str) -> dict[str, Any]:
    """The settings of an InternVL in the Hugging Face format that carry over to ours."""
    source = InternVLConfig.from_pretrained(internvl)
    if source.model_type != InternVLConfig.model_type:
        raise ValueError(
            f"{internvl} is a {source.model_type!r} model; give an InternVL checkpoint whose name ends in -hf"
        )
    return {k: v for k, v in source.to_dict().items() if k not in {"model_type", "architectures", "dtype"}}


def _with_weights_of(
    internvl: str, config: VQAThinkerConfig, dtype: torch.dtype | str
) -> VQAThinkerForConditionalGeneration:
    """Our model with InternVL's weights, the motion branch at random.

    The published files name their weights in an older way, which only transformers' own class translates.
    """
    stock = InternVLForConditionalGeneration.from_pretrained(internvl, dtype=dtype)
    model = VQAThinkerForConditionalGeneration.from_pretrained(
        None, config=config, state_dict=stock.state_dict(), dtype=stock.dtype
    )
    model.generation_config = stock.generation_config
    return model
