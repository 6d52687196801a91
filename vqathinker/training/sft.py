"""Supervised examples: the prompt of a video and a templated answer with its MOS.

The paper's SFT baseline, and the warm start of a small model. TRL's `SFTTrainer` does the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vqathinker import answers
from vqathinker.media.video import VideoError, read_many
from vqathinker.model import VQAThinkerProcessor

LEVELS = ("bad", "poor", "fair", "good", "excellent")
REASONING = "The quality is {level}."
IGNORED = -100


def templated_answer(target: float) -> str:
    """The response that a model should give for a target on the 1-5 scale.

    >>> templated_answer(3.417)
    '<think>The quality is fair.</think><answer>3.42</answer>'
    """
    level = LEVELS[min(max(round(target), 1), len(LEVELS)) - 1]
    return answers.render(REASONING.format(level=level), target)


class SupervisedCollator:
    """Turns data set rows into a padded batch with labels on the answer only.

    Args:
        processor: the checkpoint's.
        num_workers: threads that decode.
    """

    def __init__(self, processor: VQAThinkerProcessor, *, num_workers: int = 4) -> None:
        self.processor, self.num_workers = processor, num_workers

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Build `input_ids`, `attention_mask`, `labels` (B, L) and `pixel_values` (B·T, 3, S, S).

        Raises:
            VideoError: if a video cannot be read; find those before with `vqathinker prepare`.
        """
        setting = self.processor.training
        frames = []
        for clip in read_many([row["path"] for row in rows], setting.num_frames, self.num_workers):
            if isinstance(clip, VideoError):
                raise clip
            frames.append(clip.frames)
        prompt = self.processor.prompt_ids(setting.num_frames, setting.tokens_per_frame)
        tokenizer = self.processor.tokenizer
        texts = [templated_answer(row["target"]) + tokenizer.eos_token for row in rows]
        replies = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad(
            [torch.tensor(prompt + r) for r in replies],
            batch_first=True,
            padding_value=tokenizer.pad_token_id,
        )
        labels = pad(
            [torch.tensor([IGNORED] * len(prompt) + r) for r in replies],
            batch_first=True,
            padding_value=IGNORED,
        )
        lengths = torch.tensor([len(prompt) + len(r) for r in replies])
        return {
            "input_ids": ids,
            "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long(),
            "labels": labels,
            "pixel_values": torch.cat([self.processor.pixels(f, setting.size) for f in frames]),
        }
