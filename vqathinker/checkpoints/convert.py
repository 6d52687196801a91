"""Checkpoints of other layouts into ours, and InternVL's Hugging Face format back out of it, shard by shard.

Reads configurations, tokenizers and safetensors files; never a checkpoint's code. A conversion happens whole
or not at all: every tensor of the source has a place in the target, and the other way round.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial, reduce
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
)

from vqathinker.checkpoints import layouts
from vqathinker.checkpoints.folders import checkpoint_file, checkpoint_folder
from vqathinker.checkpoints.source import CHAT, internvl_values, read_config, text_tie
from vqathinker.checkpoints.storage import REPORT_FILE, appearing, check_free, scan, write
from vqathinker.checkpoints.tensors import Conversion, Piece, assign, check, find_tie, leave_out
from vqathinker.model.modeling import (
    MotionProjector,
    VQAThinkerConfig,
    VQAThinkerForConditionalGeneration,
    check_language_model,
    check_motion,
)
from vqathinker.model.processing import VQAThinkerProcessor
from vqathinker.model.slowfast import SlowFast, published_state
from vqathinker.prompts import RELEASED, Prompt

GENERATION_FILE = "generation_config.json"
OURS = "vqathinker"
PUBLISHED = "internvl-hf"
TARGETS = (OURS, PUBLISHED)
LAYOUT_OF = {OURS: "vqathinker", PUBLISHED: "internvl"}
SLOWFAST, PROJECTOR = layouts.MOTION_PARTS


def convert(
    source: str,
    out: str | Path,
    *,
    target: str = OURS,
    motion: str | None = None,
    slowfast: str | Path | None = None,
    prompt: Prompt | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    seed: int = 0,
    frames: Mapping[str, int] | None = None,
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """Write a checkpoint in another layout; the logits stay the same.

    Args:
        source: directory or hub id: VQAThinker or InternVL as their authors publish it (`internvl_chat`),
            InternVL in the Hugging Face format, or ours.
        out: directory to write; it appears once it is complete.
        target: "vqathinker", or "internvl-hf" for an InternVL without motion.
        motion: for a source without motion "slowfast" (if omitted), "fast" or "none".
        slowfast: the `SLOWFAST_8x8_R50` checkpoint, for a source without motion; the projector
            starts at random.
        prompt: replaces the wording, which is that of the released weights where the source holds motion.
        dtype: precision of the written weights; the source's if omitted. SlowFast stays in fp32.
        overwrite: whether to replace what an earlier conversion wrote to `out`.
        seed: of the motion projector.
        frames: numbers and sizes of frames, as `VQAThinkerProcessor` takes them.
        on_shard: called after each shard with their numbers, done and in all.

    Returns:
        The report, which is in `out` as `conversion.json` too.

    Raises:
        ConversionError: if a tensor is unused, missing or mismatched.
        ValueError: if the source cannot be read or computes what ours does not, its motion is neither there
            nor left out, or `out` is not free.
    """
    out = Path(out).resolve()
    check_free(out, overwrite=overwrite)
    slowfast = None if slowfast is None else checkpoint_file(slowfast)  # before gigabytes are fetched
    folder = checkpoint_folder(source)
    if out.exists() and folder.resolve().is_relative_to(out):
        raise ValueError(f"{out} holds the source; choose another directory")
    config = read_config(folder)
    report = Conversion(source=source, layout=config["model_type"], target=target)
    if report.layout == LAYOUT_OF[target]:
        raise ValueError(f"{source} is in the layout {target!r} already")
    values = layouts.chat_values(config) if report.layout == CHAT else internvl_values(folder, config)
    pieces = assign(scan(folder), report)
    has_motion = any(name.startswith(layouts.MOTION_PARTS) for name in pieces)
    motion = _motion(motion, slowfast, report, has_motion=has_motion)
    extras = _slowfast_weights(slowfast)
    if target == PUBLISHED:
        leave_out(pieces, report)
    # the head says for itself whether it is the embeddings; what configurations say of it is often a default
    is_tied = find_tie(pieces, report, in_text=text_tie(config), at_top=values["tie_word_embeddings"])
    values["tie_word_embeddings"] = values["text_config"]["tie_word_embeddings"] = is_tied
    wording = prompt or (RELEASED if has_motion and report.layout == CHAT else Prompt())
    processor = _processor(folder, config, motion=motion, prompt=wording.to_dict(), **(frames or {}))
    model = _empty_model(values, processor, {**pieces, **extras}, report, dtype)
    if extras:
        extras |= _random_projector(model, seed)
    check(pieces, extras, model.state_dict(), report, is_tied=is_tied)
    with appearing(out, overwrite=overwrite) as temporary:
        _write_settings(temporary, folder, model, processor, report)
        write(temporary, _shards(pieces, extras, target, dtype), on_shard)
        report.files = sorted([*(path.name for path in temporary.iterdir()), REPORT_FILE])
        report.write(temporary / REPORT_FILE)
    return report


def _motion(wish: str | None, slowfast: str | Path | None, report: Conversion, *, has_motion: bool) -> str:
    """The motion variant of the target; raises where it can be none that was meant."""
    if report.target == PUBLISHED:
        reason = "becomes a model without motion"
    elif has_motion:
        reason = "has a motion branch of its own"
    elif wish == "none":
        reason = "stays without motion (--motion none)"
    else:
        motion = wish or "slowfast"
        check_motion(motion)
        if slowfast is None:
            raise ValueError(
                f"{report.source} has no motion branch, and motion={motion!r} needs a SlowFast checkpoint: "
                "give SLOWFAST_8x8_R50.pyth of pytorchvideo (--slowfast), or leave motion out (--motion none)"
            )
        return motion
    if slowfast is not None:
        raise ValueError(f"{report.source} {reason}; leave the SlowFast checkpoint out")
    if wish is not None and (has_motion or report.target == PUBLISHED):
        raise ValueError(f"{report.source} {reason}; leave --motion out")
    return "slowfast" if has_motion else "none"


def _slowfast_weights(path: str | Path | None) -> dict[str, Tensor]:
    """Weights of a published SlowFast by our names, none without its file."""
    if path is None:
        return {}
    shapes = {name: tuple(tensor.shape) for name, tensor in published_state(path).items()}
    sizes = layouts.slowfast_size(shapes)
    network = SlowFast(sizes["slowfast_depth"], sizes["slowfast_stem_dim"])
    network.load_published(path)
    return {SLOWFAST + name: tensor for name, tensor in network.state_dict().items()}


def _processor(folder: Path, config: dict[str, Any], **options: Any) -> VQAThinkerProcessor:
    """Tokenizer and wording; what the layout `internvl_chat` has in its code and in no file is added."""
    is_chat = config["model_type"] == CHAT
    # without `config` transformers would read the folder's, which it does not know
    known = {"config": layouts.text_config_class(config["llm_config"])()} if is_chat else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **known)
    if is_chat:
        missing = {layouts.TURN_END, layouts.PAD} - tokenizer.get_vocab().keys()
        if missing:
            raise ValueError(f"the tokenizer of {folder} lacks {min(missing)}; take that of an InternVL3")
        tokenizer.chat_template = layouts.chat_template(config["template"])
        tokenizer.eos_token = layouts.TURN_END
        tokenizer.pad_token = layouts.PAD
    return VQAThinkerProcessor(tokenizer, **options)


def _empty_model(
    values: dict[str, Any],
    processor: VQAThinkerProcessor,
    weights: Mapping[str, Piece | Tensor],
    report: Conversion,
    dtype: torch.dtype | None,
) -> PreTrainedModel:
    """The target model on no device: shapes and configuration.

    Args:
        values: the source's settings as InternVL's configuration takes them.
        processor: knows the special tokens and the motion variant.
        weights: by our names, for what the configuration does not say: SlowFast's size, the precision.
        report: names layout and target.
        dtype: of the weights to be written, if not the source's.
    """
    tokenizer = processor.tokenizer
    image_id, motion_id = processor.placeholder_ids
    if report.layout == CHAT:
        ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        values["text_config"] |= ids
    if values.setdefault("image_token_id", image_id) != image_id:
        raise ValueError(f"image_token_id is {values['image_token_id']}, the tokenizer says {image_id}")
    kinds: tuple[Any, Any] = (InternVLConfig, InternVLForConditionalGeneration)
    if report.target == OURS:
        kinds = (VQAThinkerConfig, VQAThinkerForConditionalGeneration)
        shapes = {name.removeprefix(SLOWFAST): weight.shape for name, weight in weights.items()}
        values = {**values, **layouts.slowfast_size(shapes)}
        # as many positions as there are frames, if those are more than usual
        longest = max(processor.num_frames, processor.scoring_num_frames)
        values["max_frames"] = max(values.get("max_frames", VQAThinkerConfig.max_frames), longest)
        values = {**values, "motion": processor.motion, "motion_token_id": motion_id}
    try:
        settings = kinds[0](**values)
    except StrictDataclassError as error:
        raise ValueError(f"the source's config.json: {error}") from error
    check_language_model(settings.text_config.to_dict())
    size = len(tokenizer)
    rows = settings.text_config.vocab_size
    if size > rows:
        raise ValueError(f"the source's tokenizer has {size} tokens, its language model only {rows}")
    stored = [
        piece.stored.dtype
        for name, piece in weights.items()
        if isinstance(piece, Piece) and piece.stored.dtype.is_floating_point and not name.startswith(SLOWFAST)
    ]
    settings.dtype = dtype or (reduce(torch.promote_types, stored) if stored else None)
    with torch.device("meta"):
        return kinds[1](settings)  # type: ignore[no-any-return]


def _random_projector(model: PreTrainedModel, seed: int) -> dict[str, Tensor]:
    """Starting weights of the motion projector, drawn as the model draws them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector = MotionProjector(model.config)  # type: ignore[arg-type]
        for module in projector.modules():
            model._init_weights(module)
    return {
        PROJECTOR + name: weight.to(model.config.dtype) for name, weight in projector.state_dict().items()
    }


def _shards(
    pieces: Mapping[str, Piece], extras: dict[str, Tensor], target: str, dtype: torch.dtype | None
) -> list[Callable[[], dict[str, Tensor]]]:
    """One function per shard that reads it: split as the source is, further weights last."""
    files: dict[Path, dict[str, Piece]] = {}
    for name, piece in pieces.items():
        files.setdefault(piece.stored.file, {})[name] = piece
    stored_name = layouts.published_name if target == PUBLISHED else str
    shards: list[Callable[[], dict[str, Tensor]]] = [
        partial(_read, group, stored_name, dtype) for group in files.values()
    ]
    return [*shards, *([lambda: extras] if extras else [])]


def _read(
    pieces: Mapping[str, Piece], stored_name: Callable[[str], str], dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """The tensors of one shard; SlowFast stays in fp32."""
    tensors = {}
    for name, piece in pieces.items():
        tensor = piece.read()
        wanted = torch.float32 if name.startswith(SLOWFAST) else dtype or tensor.dtype
        tensors[stored_name(name)] = tensor.to(wanted) if tensor.is_floating_point() else tensor
    return tensors


def _write_settings(
    folder: Path, source: Path, model: PreTrainedModel, processor: VQAThinkerProcessor, report: Conversion
) -> None:
    """Configurations, tokenizer and, for ours, what else the processor knows."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer = processor.tokenizer
    if report.target == OURS:
        processor.save_pretrained(folder)
    else:
        tokenizer.init_kwargs.pop("processor_class", None)  # ours does not come along
        tokenizer._set_processor_class(None)
        tokenizer.save_pretrained(folder)
    if report.layout == CHAT:
        ends = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
        ends.save_pretrained(folder)
    elif (source / GENERATION_FILE).is_file():
        shutil.copyfile(source / GENERATION_FILE, folder / GENERATION_FILE)
