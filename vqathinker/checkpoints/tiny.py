"""A checkpoint of about a million weights with the real classes, for the demo, the tests and the benchmarks.

The tokenizer is trained on the prompt and on typical responses; digits are tokens of their own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from vqathinker import answers
from vqathinker.model.modeling import VQAThinkerConfig, VQAThinkerForConditionalGeneration
from vqathinker.model.processing import IMAGE_END, IMAGE_START, IMAGE_TOKEN, MOTION_TOKEN, VQAThinkerProcessor
from vqathinker.model.slowfast import SlowFast
from vqathinker.prompts import Prompt
from vqathinker.scale import WORDS

PAD = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROMPT = Prompt(opening="", frame_label="", motion_label="", question="Rate the quality from 1 to 5.")
RESPONSES = [answers.render(f"The quality is {level}.", 3.45) for level in reversed(WORDS)]
# Wider starting weights than a large model's: with so few channels the default of 0.02 passes no signal.
VISION = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 192,
    "layer_scale_init_value": 1.0,
    "initializer_range": 0.08,
}
TEXT = {
    "initializer_range": 0.06,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 320,
    "max_position_embeddings": 4096,
}
SLOWFAST: dict[str, Any] = {"slowfast_depth": 18, "slowfast_stem_dim": 16}
BLOB_WIDTHS = (3.0, 0.7)  # pixels, standard deviation: brightness of a region, fine detail
CALIBRATION_SHAPE = (16, 6, 3, 56, 56)


def build_tokenizer(
    prompt: Prompt, vocab_size: int = 400, responses: Sequence[str] = RESPONSES
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on the prompt and on typical responses."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, TURN_START, TURN_END, IMAGE_START, IMAGE_END, IMAGE_TOKEN, MOTION_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [*prompt.to_dict().values(), "user\n", "assistant\n", *responses] * 4, trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=TURN_END, pad_token=PAD)
    fast.chat_template = CHAT_TEMPLATE
    return fast


def frequency_filters(num_filters: int, size: int) -> Tensor:
    """Grey cosine patterns (C, 3, size, size) of all frequencies, fine ones amplified most.

    Fine detail is faint in pictures: random filters would see the content only, and no noise or blur.
    """
    wave = torch.arange(size)
    basis = torch.cos(math.pi * (wave + 0.5) * wave[:, None] / size) * (2 / size) ** 0.5
    radius = torch.hypot(*torch.meshgrid(wave.float(), wave.float(), indexing="ij")).flatten()
    chosen = radius.argsort(stable=True)[torch.linspace(0, size**2 - 1, num_filters).round().long()]
    patterns: Tensor = basis[chosen // size, :, None] * basis[chosen % size, None, :]
    patterns *= (4 + radius[chosen, None, None] ** 2) ** 2 / 12000
    return patterns[:, None].expand(-1, 3, -1, -1)


def see_change(slowfast: SlowFast) -> None:
    """Let the fast pathway's first filters answer to change: a blob's brightness less that a frame before.

    Random ones answer so much to what a frame shows that no freeze or stutter is left in their mean.
    """
    first: Any = slowfast.blocks[0]
    filters = first.multipathway_blocks[1].conv.weight  # (C, 3, T, S, S)
    distance = torch.arange(filters.shape[-1]) - filters.shape[-1] // 2
    now = filters.shape[2] // 2
    filters.zero_()
    for channel, width in zip(filters, itertools.cycle(BLOB_WIDTHS), strict=False):
        profile = torch.exp(-((distance / width) ** 2) / 2)
        blob = profile[:, None] * profile / profile.sum() ** 2
        channel[:, now] = blob
        channel[:, now - 1] = -blob


def calibrate(slowfast: SlowFast, noise: Tensor) -> None:
    """Set the BatchNorm statistics to those of noise at two scales: random filters answer on a common scale.

    Args:
        slowfast: with random weights.
        noise: (B, T, 3, S, S).
    """
    coarse = nn.functional.interpolate(noise[..., ::8, ::8].flatten(0, 1), noise.shape[-2:], mode="bilinear")
    norms = [module for module in slowfast.modules() if isinstance(module, nn.BatchNorm3d)]
    for norm in norms:
        norm.training = True
        norm.momentum = None  # a plain mean over what passes
        norm.reset_running_stats()
    slowfast.stages(torch.cat([noise, coarse.view_as(noise)]))
    slowfast.train()


def build_tiny(
    out: str | Path,
    *,
    seed: int = 0,
    prompt: Prompt = PROMPT,
    responses: Sequence[str] = RESPONSES,
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    motion: str = "slowfast",
    num_frames: int = 6,
    frame_size: int = 56,
) -> None:
    """Write a checkpoint with random weights.

    Args:
        out: directory to write.
        seed: of the weights.
        prompt: wording around the video.
        responses: typical ones, whose words become tokens.
        vision: overrides the vision tower's sizes.
        text: overrides the language model's sizes.
        motion: "slowfast", "fast" or "none".
        num_frames: keyframes in training and in scoring.
        frame_size: their side in pixels.
    """
    tokenizer = build_tokenizer(prompt, responses=responses)
    processor = VQAThinkerProcessor(
        tokenizer,
        num_frames=num_frames,
        frame_size=frame_size,
        scoring_num_frames=num_frames,
        scoring_frame_size=frame_size,
        motion=motion,
        prompt=prompt.to_dict(),
    )
    ids = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    image_id, motion_id = processor.placeholder_ids
    config = VQAThinkerConfig(
        vision_config={**VISION, "image_size": [frame_size, frame_size], **(vision or {})},
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT, **ids, **(text or {})},
        image_token_id=image_id,
        motion_token_id=motion_id,
        image_seq_length=processor.training.tokens_per_frame,
        tie_word_embeddings=False,
        motion=motion,
        **SLOWFAST,
    )
    # the caller's random numbers stay as they were
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VQAThinkerForConditionalGeneration(config)
        filters = model.model.vision_tower.embeddings.patch_embeddings.projection.weight
        # random filters hardly see blur and blocks, so few steps of training show nothing
        with torch.no_grad():
            filters.copy_(frequency_filters(filters.shape[0], filters.shape[-1]))
        if motion != "none":
            see_change(model.model.slowfast)
            calibrate(model.model.slowfast, torch.randn(CALIBRATION_SHAPE))
    model.save_pretrained(out)
    processor.save_pretrained(out)
