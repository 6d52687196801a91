"""Checkpoints of other layouts into ours, and InternVL's Hugging Face format back out of it, shard by shard.

Reads configurations, tokenizers and safetensors files; never a checkpoint's code. A conversion happens whole
or not at all: every tensor of the source has a place in the target, and the other way round.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
    Qwen2Config,
)

from vqathinker.checkpoints import checkpoint_folder
from vqathinker.model import layouts
from vqathinker.model.matching import EMBEDDINGS, Piece, Report, assign, check, leave_out
from vqathinker.model.modeling import MotionProjector, VQAThinkerConfig, VQAThinkerForConditionalGeneration
from vqathinker.model.processing import VQAThinkerProcessor
from vqathinker.model.slowfast import SlowFast, published_state
from vqathinker.model.storage import REPORT_FILE, appearing, check_free, read_json, scan, write
from vqathinker.prompts import RELEASED, Prompt

GENERATION_FILE = "generation_config.json"
OURS, PUBLISHED = "vqathinker", "internvl-hf"
TARGETS = (OURS, PUBLISHED)
CHAT = "internvl_chat"
LAYOUT_OF = {OURS: "vqathinker", PUBLISHED: "internvl"}
SLOWFAST, PROJECTOR = layouts.MOTION_PARTS
HF_SETTINGS = {
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "default",
    "downsample_ratio": layouts.DOWNSAMPLE_RATIO,
}


def convert(
    source: str,
    out: str | Path,
    *,
    target: str = OURS,
    slowfast: str | Path | None = None,
    prompt: Prompt | None = None,
    overwrite: bool = False,
    seed: int = 0,
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write a checkpoint in another layout; the logits stay the same.

    Args:
        source: directory or hub id: VQAThinker or InternVL as their authors publish it (`internvl_chat`),
            InternVL in the Hugging Face format, or ours.
        out: directory to write; it appears once it is complete.
        target: "vqathinker", or "internvl-hf" for an InternVL without motion.
        slowfast: the `SLOWFAST_8x8_R50` checkpoint, for a source without motion; the projector
            starts at random.
        prompt: replaces the wording, which is that of the released weights where the source holds motion.
        overwrite: whether to replace what an earlier conversion wrote to `out`.
        seed: of the motion projector.
        on_shard: called after each shard with their numbers, done and in all.

    Returns:
        The report, which is in `out` as `conversion.json` too.

    Raises:
        ConversionError: if a tensor is unused, missing or mismatched.
        ValueError: if the source cannot be read or computes what ours does not, or `out` is not free.
    """
    out = Path(out).resolve()
    check_free(out, overwrite=overwrite)
    folder = checkpoint_folder(source)
    if out.exists() and folder.resolve().is_relative_to(out):
        raise ValueError(f"{out} holds the source; choose another directory")
    config = _read_config(folder)
    report = Report(source=source, layout=config["model_type"], target=target)
    if report.layout == LAYOUT_OF[target]:
        raise ValueError(f"{source} is in the layout {target!r} already")
    pieces = assign(scan(folder), report)
    has_motion = any(name.startswith(layouts.MOTION_PARTS) for name in pieces)
    extras = _slowfast_weights(slowfast, report, has_motion=has_motion)
    if target == PUBLISHED:
        leave_out(pieces, report)
    values = layouts.chat_values(config) if report.layout == CHAT else _internvl_values(folder)
    wording = prompt or (RELEASED if has_motion and report.layout == CHAT else Prompt())
    processor = _processor(folder, config, wording, has_motion=has_motion or bool(extras))
    model = _empty_model(values, processor, {**pieces, **extras}, report)
    if extras:
        extras |= _random_projector(model, seed)
    check(pieces, extras, model.state_dict(), report, is_tied=model.config.tie_word_embeddings)
    with appearing(out, overwrite=overwrite) as temporary:
        _write_settings(temporary, folder, model, processor, report)
        write(temporary, _shards(pieces, extras, target), on_shard)
        report.files = sorted([*(path.name for path in temporary.iterdir()), REPORT_FILE])
        report.write(temporary / REPORT_FILE)
    return report


def _read_config(folder: Path) -> dict[str, Any]:
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds an adapter; merge it into its base and save that first")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json, it is not a checkpoint")
    config = read_json(folder / "config.json")
    if config.get("model_type") not in layouts.RULES:
        raise ValueError(
            f"{folder} is a {config.get('model_type')!r} model; {', '.join(layouts.RULES)} can be converted"
        )
    return config


def _slowfast_weights(path: str | Path | None, report: Report, *, has_motion: bool) -> dict[str, Tensor]:
    """Weights of a published SlowFast by our names, none without its file."""
    if path is None:
        return {}
    if has_motion or report.target == PUBLISHED:
        reason = "has a motion branch of its own" if has_motion else "becomes a model without motion"
        raise ValueError(f"{report.source} {reason}; leave the SlowFast checkpoint out")
    shapes = {name: tuple(tensor.shape) for name, tensor in published_state(path).items()}
    sizes = layouts.slowfast_size(shapes)
    network = SlowFast(sizes["slowfast_depth"], sizes["slowfast_stem_dim"])
    network.load_published(path)
    return {SLOWFAST + name: tensor for name, tensor in network.state_dict().items()}


def _processor(
    folder: Path, config: dict[str, Any], wording: Prompt, *, has_motion: bool
) -> VQAThinkerProcessor:
    """Tokenizer and wording; what the layout `internvl_chat` has in its code and in no file is added."""
    is_chat = config["model_type"] == CHAT
    # without `config` transformers would read the folder's, which it does not know
    known = {"config": Qwen2Config()} if is_chat else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **known)
    if is_chat:
        missing = {layouts.TURN_END, layouts.PAD} - tokenizer.get_vocab().keys()
        if missing:
            raise ValueError(f"the tokenizer of {folder} lacks {min(missing)}; take that of an InternVL3")
        tokenizer.chat_template = layouts.chat_template(config["template"])
        tokenizer.eos_token, tokenizer.pad_token = layouts.TURN_END, layouts.PAD
    motion = "slowfast" if has_motion else "none"
    return VQAThinkerProcessor(tokenizer, motion=motion, prompt=wording.to_dict())


def _empty_model(
    values: dict[str, Any],
    processor: VQAThinkerProcessor,
    weights: Mapping[str, Piece | Tensor],
    report: Report,
) -> PreTrainedModel:
    """The target model on no device: shapes and configuration.

    Args:
        values: the source's settings as InternVL's configuration takes them.
        processor: knows the special tokens and the motion variant.
        weights: by our names, for what the configuration does not say: SlowFast's size, the precision.
        report: names layout and target.
    """
    tokenizer, (image_id, motion_id) = processor.tokenizer, processor.placeholder_ids
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
        values = {**values, "motion": processor.motion, "motion_token_id": motion_id}
    try:
        settings = kinds[0](**values)
    except StrictDataclassError as error:
        raise ValueError(f"the source's config.json: {error}") from error
    size, rows = len(tokenizer), settings.text_config.vocab_size
    if size > rows:
        raise ValueError(f"the source's tokenizer has {size} tokens, its language model only {rows}")
    embeddings = weights.get(EMBEDDINGS)
    settings.dtype = embeddings.stored.dtype if isinstance(embeddings, Piece) else None
    with torch.device("meta"):
        return kinds[1](settings)  # type: ignore[no-any-return]


def _internvl_values(folder: Path) -> dict[str, Any]:
    """Those settings of a Hugging Face configuration that are InternVL's."""
    values = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
    for name, expected in HF_SETTINGS.items():
        if values[name] != expected:
            raise ValueError(f"{name} is {values[name]!r}; only {expected!r} can be converted")
    left_out = {"model_type", "architectures", "dtype", "transformers_version"}
    known = InternVLConfig().to_dict().keys() - left_out
    return {name: value for name, value in values.items() if name in known}


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
    pieces: Mapping[str, Piece], extras: dict[str, Tensor], target: str
) -> list[Callable[[], dict[str, Tensor]]]:
    """One function per shard that reads it: split as the source is, further weights last."""
    files: dict[Path, dict[str, Piece]] = {}
    for name, piece in pieces.items():
        files.setdefault(piece.stored.file, {})[name] = piece
    stored_name = layouts.published_name if target == PUBLISHED else str
    shards: list[Callable[[], dict[str, Tensor]]] = [
        partial(_read, group, stored_name) for group in files.values()
    ]
    return [*shards, *([lambda: extras] if extras else [])]


def _read(pieces: Mapping[str, Piece], stored_name: Callable[[str], str]) -> dict[str, Tensor]:
    """The tensors of one shard; SlowFast stays in fp32."""
    tensors = {}
    for name, piece in pieces.items():
        tensor = piece.read()
        is_exact = name.startswith(SLOWFAST) and tensor.is_floating_point()
        tensors[stored_name(name)] = tensor.float() if is_exact else tensor
    return tensors


def _write_settings(
    folder: Path, source: Path, model: PreTrainedModel, processor: VQAThinkerProcessor, report: Report
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
