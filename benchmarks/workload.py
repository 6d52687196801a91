"""The groups of an update: the same weights and the same rows for this library's trainer and for TRL's.

The model is of middle size with random weights; P prompt tokens hold the frames of one video, 256 tokens
each, and K completions of R random tokens follow.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from rewards import FormatReward
from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.training import TrainingConfig, VQAThinkerTrainer
from vqathinker.training.grpo.adapter import Updating
from vqathinker.training.grpo.rows import VideoInputs

FRAME_SIZE = 448
TOKENS_PER_FRAME = 256
MIDDLE: dict[str, Any] = {
    "vision": {"hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 1024},
    "text": {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 4,
        "intermediate_size": 2560, "max_position_embeddings": 4096,
    },
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {"tiny": {"frame_size": 56}, "middle": {"frame_size": 224, **MIDDLE}}


@dataclass(frozen=True)
class Rows:
    """K rows for each of V videos, as TRL holds them.

    Attributes:
        prompt: (V·K, P) ids, those of a video one after the other.
        completion: (V·K, R) ids.
        pixels: (V, T, 3, S, S).
        advantages: (V·K,).
    """

    prompt: Tensor
    completion: Tensor
    pixels: Tensor
    advantages: Tensor

    def inputs(self) -> dict[str, Any]:
        """What both trainers' losses read."""
        return {
            "prompt_ids": self.prompt,
            "prompt_mask": torch.ones_like(self.prompt),
            "completion_ids": self.completion,
            "completion_mask": torch.ones_like(self.completion),
            "advantages": self.advantages,
            "num_items_in_batch": torch.tensor(self.completion.numel()),
            "sampling_per_token_logps": torch.full(self.completion.shape, torch.nan),
        }


def make_rows(processor: Any, prompt_tokens: int, completion_tokens: int, num_rows: int) -> Rows:  # noqa: ANN401
    """Draw a video and completions; the prompt is filled up to its length with ordinary tokens."""
    generator = torch.Generator().manual_seed(0)
    num_frames = prompt_tokens // TOKENS_PER_FRAME
    ids = processor.prompt_ids(num_frames, TOKENS_PER_FRAME)
    ordinary = range(len(processor.tokenizer.all_special_ids) + 8, len(processor.tokenizer))
    drawn = torch.randint(ordinary.start, ordinary.stop, (prompt_tokens - len(ids),), generator=generator)
    prompt = torch.cat([torch.tensor(ids[:-1]), drawn, torch.tensor(ids[-1:])])
    shape = (num_rows, completion_tokens)
    return Rows(
        prompt.expand(num_rows, -1).contiguous(),
        torch.randint(ordinary.start, ordinary.stop, shape, generator=generator),
        torch.randn(1, num_frames, 3, FRAME_SIZE, FRAME_SIZE, generator=generator),
        torch.randn(num_rows, generator=generator),
    )


class Ours:
    """This library's update: packed groups, vision once per group, motion features from the rollout."""

    def __init__(self, checkpoint: Path, **settings: Any) -> None:
        model, processor = load_policy(checkpoint, dtype=torch.float32)
        columns = {"prompt": "", "video_id": "0", "dataset": "none", "path": "none", "target": 3.0}
        args = TrainingConfig(**common(), rewards=["format"], perturbations=[], **settings)
        self.trainer = VQAThinkerTrainer(
            model,
            args,
            processor=processor,
            rewards={"format": FormatReward()},
            train_dataset=Dataset.from_list([columns] * 4),
        )
        self.trainer.current_gradient_accumulation_steps = 1
        self.model = model.train()

    def loss(self, rows: Rows) -> Tensor:
        """Reference pass and loss."""
        (pixels,) = rows.pixels
        video = VideoInputs(pixels, self.model.model.motion_features(rows.pixels)[0])
        inputs = rows.inputs() | {"videos": [video] * len(rows.prompt)}
        with self.trainer.at_work(Updating(inputs)):
            inputs["ref_per_token_logps"] = reference(self.trainer, rows)
        return self.trainer._compute_loss(self.model, inputs)


class Stock:
    """TRL's own trainer on the same model: every row with its own prompt and its own copy of the frames."""

    def __init__(self, checkpoint: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> None:
        model, processor = load_policy(checkpoint, dtype=dtype)
        self.trainer = GRPOTrainer(
            model,
            reward_funcs=FormatReward().__call__,
            args=GRPOConfig(**common(), **settings),
            train_dataset=Dataset.from_list([{"prompt": ""}] * 4),
            processing_class=processor.tokenizer,
        )
        self.trainer.current_gradient_accumulation_steps = 1
        self.model = model.train()

    def loss(self, rows: Rows) -> Tensor:
        """Reference pass and loss."""
        count = len(rows.prompt)
        (num_videos, num_frames) = rows.pixels.shape[:2]
        frames = {
            "pixel_values": rows.pixels.repeat_interleave(count // num_videos, 0).flatten(0, 1),
            "num_images": [num_frames] * count,
        }
        inputs = rows.inputs() | frames
        inputs["ref_per_token_logps"] = reference(self.trainer, rows, **frames)
        loss: Tensor = self.trainer._compute_loss(self.model, inputs)
        return loss


def common() -> dict[str, Any]:
    """Settings that both trainers share: the paper's loss on the CPU, without autocast."""
    return {
        "output_dir": tempfile.mkdtemp(), "use_cpu": True, "bf16": False, "report_to": "none", "beta": 0.04,
        "loss_type": "grpo", "num_generations": 4, "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1, "temperature": 0.9, "disable_tqdm": True, "top_k": 50,
        "gradient_checkpointing": False, "use_bias_correction_kl": False, "save_strategy": "no",
    }  # fmt: skip


@torch.no_grad()
def reference(trainer: GRPOTrainer, rows: Rows, **vision: Any) -> Tensor:
    """(K, R) log-probabilities of the reference model, by the trainer's own method."""
    ids = torch.cat([rows.prompt, rows.completion], dim=1)
    logps, _, _ = trainer._get_per_token_logps_and_entropies(
        trainer.ref_model, ids, torch.ones_like(ids), rows.completion.shape[1], **vision
    )
    return logps


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """Gradients by name."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def build_middle(folder: Path, **text: Any) -> Path:
    """Write the checkpoint and return its folder."""
    sizes = {"vision": MIDDLE["vision"], "text": MIDDLE["text"] | text}
    build_tiny(folder, num_frames=6, frame_size=FRAME_SIZE, **sizes)
    return folder


def largest_difference(got: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest |a − b| over all tensors, each relative to its largest entry."""
    assert got.keys() == expected.keys()
    differences = [
        float((got[name] - value).abs().max() / value.abs().max().clamp(min=1e-30))
        for name, value in expected.items()
    ]
    return float(np.max(differences))
