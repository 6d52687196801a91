"""Five levels read straight from the encoder: what it knows of quality without a language model.

Source: VITAL (arXiv 2511.17962), section 4.4 and Supp. 8.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vqathinker.model.modeling import VQAThinkerModel
from vqathinker.samples import NUM_LEVELS
from vqathinker.scale import SHARES, from_share

DEPTHS = (0.25, 0.5, 0.75)  # of the vision tower: of 24 layers the 6th, 12th and 18th
# A probe of InternViT-300M then has 1.61 M weights, which the paper counts; its text maps tokens to 3,584 by
# the projectors of the large model, which would be 41 M.
WIDTH = 480


class Probe(nn.Module):
    """Layers of the vision tower and SlowFast's fast pathway, projected and averaged, then a linear layer.

    Args:
        model: whose encoder is looked at; its language model takes no part.
        width: of a projection.
        full: whether the encoder learns too; else the probe alone does.

    Raises:
        ValueError: if the model has no motion branch.
    """

    def __init__(self, model: VQAThinkerModel, *, width: int = WIDTH, full: bool = False) -> None:
        super().__init__()
        if not hasattr(model, "slowfast"):
            raise ValueError("a probe needs SlowFast, and this checkpoint has no motion branch")
        self.vision_tower = model.vision_tower
        self.slowfast = model.slowfast
        depth = len(self.vision_tower.encoder.layer)
        self.layers = [max(1, round(share * depth)) for share in DEPTHS]
        self.full = full
        if full:
            self.slowfast.unfreeze(fast=True)
        self.vision_tower.requires_grad_(full)
        widths = [model.config.vision_config.hidden_size] * len(DEPTHS) + [self.slowfast.fast_dim]  # type: ignore[union-attr]
        self.projections = nn.ModuleList(nn.Linear(size, width) for size in widths)
        self.head = nn.Linear(width * len(widths), NUM_LEVELS)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The level of B videos.

        Args:
            pixel_values: (B, T, 3, S, S) normalised frames.
            labels: (B,) places of the right levels, the best one 0.

        Returns:
            `logits` (B, 5), best level first, and with labels `loss`, their cross entropy.
        """
        tokens = self._tokens(pixel_values)
        pooled = [project(part).mean(dim=1) for project, part in zip(self.projections, tokens, strict=True)]
        logits: Tensor = self.head(torch.cat(pooled, dim=-1))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    def _tokens(self, pixels: Tensor) -> list[Tensor]:
        """(B, N, d) tokens of the three layers and of the fast pathway."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.full):
            seen: Any = self.vision_tower(pixels.flatten(0, 1), output_hidden_states=True)
            layers = [seen.hidden_states[layer].unflatten(0, pixels.shape[:2]) for layer in self.layers]
            moving = self.slowfast.fast_features(pixels)
        dtype = self.head.weight.dtype
        return [*(layer.flatten(1, 2).to(dtype) for layer in layers), moving.to(dtype)]


def expected_scores(logits: Tensor) -> list[float]:
    """The expected level of (B, 5) logits on the 1-5 scale."""
    shares = logits.float().softmax(dim=-1) @ logits.new_tensor(SHARES, dtype=torch.float32)
    return [from_share(share) for share in shares.tolist()]
