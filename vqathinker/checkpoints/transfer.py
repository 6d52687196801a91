"""The encoder of one checkpoint with the language model of another.

Source: VITAL (arXiv 2511.17962), section 3.3: an encoder that was trained once serves decoders that were not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vqathinker.checkpoints.folders import HOW_TO_MERGE, checkpoint_folder, is_adapter
from vqathinker.checkpoints.storage import REPORT_FILE, Stored, appearing, check_free, scan, write, write_json
from vqathinker.model.modeling import VQAThinkerConfig
from vqathinker.model.processing import VQAThinkerProcessor

SLOWFAST = "model.slowfast."
ENCODER = ("model.vision_tower.", SLOWFAST)
# what both have to agree on beside the shapes of weights
AGREED = ("motion", "downsample_ratio", "vision_feature_layer", "vision_feature_select_strategy")
# of the vision tower's settings, what changes none of its features
WITHOUT_EFFECT = {
    "dtype", "_name_or_path", "transformers_version", "architectures", "attention_dropout",
    "hidden_dropout_prob", "projection_dropout", "initializer_range", "initializer_factor",
}  # fmt: skip
OF_THE_TOKENIZER = {"tokenizer", "processor_class", "auto_map"}


def transfer(encoder: str | Path, decoder: str | Path, out: str | Path, *, overwrite: bool = False) -> None:
    """Write vision tower and SlowFast of one checkpoint with projectors and language model of another.

    Frames, wording and how levels are read are the encoder's, the tokenizer is the decoder's.

    Args:
        encoder: a checkpoint of ours, or its name on the hub.
        decoder: likewise.
        out: directory to write; it appears once it is complete.
        overwrite: whether to replace what an earlier call wrote to `out`.

    Raises:
        ValueError: if the two do not fit, one of them is an adapter, or `out` is not free.
    """
    out = Path(out).resolve()
    check_free(out, overwrite=overwrite)
    encoder_folder, decoder_folder = (_folder(name, out) for name in (encoder, decoder))
    of_encoder, of_decoder = (scan(folder) for folder in (encoder_folder, decoder_folder))
    config = VQAThinkerConfig.from_pretrained(decoder_folder)
    own = VQAThinkerProcessor.from_pretrained(encoder_folder)
    _check_settings(VQAThinkerConfig.from_pretrained(encoder_folder), config, own)
    taken = {name: stored for name, stored in of_encoder.items() if name.startswith(ENCODER)}
    kept = {name: stored for name, stored in of_decoder.items() if not name.startswith(ENCODER)}
    _check_shapes(taken, {name: of_decoder[name] for name in of_decoder.keys() - kept.keys()})
    # the encoder goes on seeing what it was trained on, and is asked so; words become the decoder's own ids
    tokenizer = VQAThinkerProcessor.from_pretrained(decoder_folder).tokenizer
    settings = {name: value for name, value in own.to_dict().items() if name not in OF_THE_TOKENIZER}
    with appearing(out, overwrite=overwrite) as temporary:
        config.save_pretrained(temporary)
        VQAThinkerProcessor(tokenizer, **settings).save_pretrained(temporary)
        for file in decoder_folder.glob("generation_config.json"):
            (temporary / file.name).write_bytes(file.read_bytes())
        write(temporary, [*_shards(taken, config.dtype), *_shards(kept, None)])
        files = sorted([*(path.name for path in temporary.iterdir()), REPORT_FILE])
        write_json(
            temporary / REPORT_FILE, {"encoder": str(encoder), "decoder": str(decoder), "files": files}
        )


def _folder(name: str | Path, out: Path) -> Path:
    """The folder of a checkpoint that can be taken apart."""
    folder = checkpoint_folder(name)
    if is_adapter(folder):
        raise ValueError(f"{folder} is an adapter; merge it first: {HOW_TO_MERGE.format(adapter=folder)}")
    if out.exists() and folder.resolve().is_relative_to(out):
        raise ValueError(f"{out} holds {folder}; choose another directory")
    return folder


def _check_settings(
    encoder_config: VQAThinkerConfig, decoder_config: VQAThinkerConfig, own: VQAThinkerProcessor
) -> None:
    """Refuse settings under which the decoder would be shown something else than features of the encoder.

    Args:
        encoder_config: of the encoder's checkpoint.
        decoder_config: of the decoder's.
        own: the encoder's processor, which says how many frames there are.
    """
    differing = [name for name in AGREED if getattr(encoder_config, name) != getattr(decoder_config, name)]
    one, other = (config.to_dict()["vision_config"] for config in (encoder_config, decoder_config))
    differing += [
        f"vision_config.{name}"
        for name in sorted(one.keys() | other.keys())
        if name not in WITHOUT_EFFECT and one.get(name) != other.get(name)
    ]
    if differing:
        raise ValueError(
            f"encoder and decoder differ in {', '.join(differing)}: its projectors take other features"
        )
    frames = max(own.num_frames, own.scoring_num_frames)
    if decoder_config.motion == "fast" and frames > decoder_config.max_frames:
        raise ValueError(
            f"the encoder takes {frames} frames, the decoder {decoder_config.max_frames} at most"
        )


def _check_shapes(taken: Mapping[str, Stored], replaced: Mapping[str, Stored]) -> None:
    """Refuse weights of another network."""
    alone = sorted(taken.keys() ^ replaced.keys())
    if alone:
        raise ValueError(f"encoder and decoder are of different networks: only one of them has {alone[0]}")
    for name, stored in taken.items():
        if stored.shape != replaced[name].shape:
            raise ValueError(
                f"{name} is {stored.shape} in the encoder, {replaced[name].shape} in the decoder"
            )


def _shards(
    weights: Mapping[str, Stored], dtype: str | torch.dtype | None
) -> list[Callable[[], dict[str, Tensor]]]:
    """A function for each file that reads its weights; SlowFast stays in fp32."""
    wanted: torch.dtype | None = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    files: dict[Path, list[Stored]] = {}
    for stored in weights.values():
        files.setdefault(stored.file, []).append(stored)
    return [partial(_read, group, wanted) for group in files.values()]


def _read(group: list[Stored], dtype: torch.dtype | None) -> dict[str, Tensor]:
    tensors = {stored.name: stored.read() for stored in group}
    return {
        name: tensor.to(dtype)
        if dtype is not None and tensor.is_floating_point() and not name.startswith(SLOWFAST)
        else tensor
        for name, tensor in tensors.items()
    }
