"""The published way of one GRPO step with temporal twins, written plainly, for comparison.

Each response is a row of its own: its video is decoded and encoded for it, its prompt is computed for it in
generation, reference pass and update, and the perturbed copies are generated in a second call. Source:
VQAThinker (arXiv 2508.06051), as its released trainer proceeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from perturbations import PERTURBATIONS
from vqathinker.media.video import read_keyframes
from vqathinker.rollout import Sampling


@torch.no_grad()
def generate(
    model: Any,  # noqa: ANN401  the policy
    processor: Any,  # noqa: ANN401  its processor
    videos: Sequence[Tensor],
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
) -> Tensor:
    """One response (R ids) for each row: its own pixels, its own prompt; greedy at temperature 0."""
    rows = []
    for pixels, ids in zip(videos, prompts, strict=True):
        frames = model.model.frame_features(pixels)
        motion = model.model.motion_projector(model.model.motion_features(pixels[None]))
        rows.append(model.model.merge(torch.tensor([ids]), frames, motion)[0])
    drawing = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens, suppress_tokens=processor.suppressed_ids,
        eos_token_id=processor.tokenizer.eos_token_id, pad_token_id=processor.tokenizer.pad_token_id,
        **{"do_sample": True, **drawing} if sampling.temperature else {"do_sample": False},
    )  # fmt: skip
    embeds = torch.stack(rows)
    mask = torch.ones(embeds.shape[:2], dtype=torch.long)
    responses: Tensor = model.generate(inputs_embeds=embeds, attention_mask=mask, generation_config=config)
    return responses


def rollout(
    model: Any,  # noqa: ANN401
    processor: Any,  # noqa: ANN401
    paths: Sequence[str],
    prompt: Sequence[int],
    num_responses: int,
    sampling: Sampling,
) -> tuple[Tensor, Tensor]:
    """Responses to videos and to their perturbed copies, each row drawing a perturbation of its own.

    Returns:
        Pixels of the V clean videos (V, T, 3, S, S) and the (V·K, R) responses.
    """
    setting = processor.training
    rng = np.random.default_rng(0)
    modes = [PERTURBATIONS[name]() for name in ("global_shuffle", "local_shuffle", "reverse")]
    clean = []
    for path in paths:
        for _ in range(num_responses):
            frames = read_keyframes(path, setting.num_frames).frames
            clean.append(processor.pixels(frames, setting.size))
    model.eval()
    responses = generate(model, processor, clean, [prompt] * len(clean), sampling)
    twins = [video[modes[k % len(modes)](len(video), rng)] for k, video in enumerate(clean)]
    generate(model, processor, twins, [prompt] * len(clean), sampling)
    model.train()
    return torch.stack(clean[::num_responses]), responses
