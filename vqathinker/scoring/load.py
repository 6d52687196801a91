"""From the name of a checkpoint to a model on its device and the engine that answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.folders import HOW_TO_MERGE, checkpoint_folder, is_adapter
from vqathinker.model import FrameSetting, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.fingerprint import fingerprint
from vqathinker.rollout import HFEngine, RolloutEngine
from vqathinker.scoring.mode import DTYPES, ENGINES

QUESTION_ROOM = 512  # tokens by which a question may be longer than the checkpoint's own


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What answers.

    Attributes:
        model: the policy; with vLLM its vision tower and motion branch alone.
        processor: that of the same checkpoint.
        engine: generates the responses.
        setting: keyframes.
        fingerprint: of all weights, where `model` lacks those that vLLM has.
    """

    model: VQAThinkerForConditionalGeneration
    processor: VQAThinkerProcessor
    engine: RolloutEngine
    setting: FrameSetting
    fingerprint: str | None = None


def load(
    path: str | Path,
    *,
    engine: str,
    device: str | None,
    dtype: str,
    max_new_tokens: int,
    num_frames: int | None = None,
    frame_size: int | None = None,
) -> LoadedCheckpoint:
    """Load a checkpoint.

    Args:
        path: a directory written by training or by `vqathinker init`, or its name on the hub.
        engine: "hf" or "vllm".
        device: of the model; with vLLM of its vision tower only.
        dtype: precision of the weights; "auto" is the checkpoint's.
        max_new_tokens: longest response.
        num_frames: keyframes of a video; the checkpoint's if omitted.
        frame_size: their side in pixels; the checkpoint's if omitted.

    Raises:
        ValueError: if the checkpoint is none, or engine, device or precision cannot be used.
        ImportError: if vLLM is asked for and not installed.
    """
    for kind, value, choices in (("engine", engine, ENGINES), ("dtype", dtype, DTYPES)):
        if value not in choices:
            raise ValueError(f"unknown {kind} {value!r}, choose one of {', '.join(choices)}")
    own_device = usable_device(device)
    path = checkpoint_folder(path)
    if engine == "vllm" and is_adapter(path):
        how = HOW_TO_MERGE.format(adapter=path)
        raise ValueError(
            f"{path} holds an adapter, which vLLM cannot read; merge it ({how}), or take engine='hf'"
        )
    model, processor = load_policy(path, dtype=dtype)
    model.train(False)
    setting = FrameSetting(
        processor.scoring.num_frames if num_frames is None else num_frames,
        processor.scoring.size if frame_size is None else frame_size,
    )
    if engine == "vllm":
        name = fingerprint(model, processor)
        served = _vllm_engine(path, model, processor, setting, max_new_tokens)
        del model.model.language_model, model.lm_head  # vLLM has its own
        model.to(own_device)  # type: ignore[arg-type]
        return LoadedCheckpoint(model, processor, served, setting, name)
    model.to(own_device)  # type: ignore[arg-type]
    return LoadedCheckpoint(model, processor, HFEngine(model, processor), setting)


def usable_device(device: str | None) -> torch.device:
    """The device of that name; a GPU, if there is one, for None.

    Raises:
        ValueError: if it cannot be used here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # unknown name, no such device, torch without it
        raise ValueError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error


def _vllm_engine(
    path: str | Path,
    model: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    setting: FrameSetting,
    max_new_tokens: int,
) -> RolloutEngine:
    from vqathinker.rollout.vllm import VLLMEngine

    prompt = len(processor.prompt_ids(setting.num_frames, setting.tokens_per_frame))
    context: int = model.config.text_config.max_position_embeddings  # type: ignore[union-attr]
    length = min(prompt + QUESTION_ROOM + max_new_tokens, context)
    return VLLMEngine(
        path, processor, max_length=length, dtype=str(model.lm_head.weight.dtype).removeprefix("torch.")
    )
