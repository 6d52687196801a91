"""How far the log-probabilities of the rollout engine are from those of the policy that trains."""

from __future__ import annotations

import torch
from torch import Tensor

from vqathinker.training.grpo.config import TrainingConfig
from vqathinker.types import RunStopped


def measure_gap(policy: Tensor, sampled: Tensor, mask: Tensor) -> Tensor:
    """Sum, number and largest of |policy − sampled| over the tokens: (B, C) values and mask → (3,).

    Tokens whose sampled log-probability is NaN are left out.
    """
    gap = (policy - sampled).abs()[mask.bool() & ~sampled.isnan()]
    largest = gap.max() if len(gap) else gap.new_zeros(())
    return torch.stack([gap.sum(), gap.new_tensor(float(len(gap))), largest])


def check_gap(mean_gap: float, limit: float) -> None:
    """Stop a run whose rollouts come from another model than the one that trains.

    Args:
        mean_gap: mean |log p of the engine − log p of the policy| per token, in nats.
        limit: largest gap that differences of precision explain.

    Raises:
        RunStopped: if the gap is larger, or no number.
    """
    if not mean_gap <= limit:
        raise RunStopped(
            f"the engine and the policy differ by {mean_gap:.3g} nats per token (max_logp_gap={limit:g}): "
            "the engine has other weights, another prompt or another precision than the policy. Start it "
            "from the checkpoint that is being trained, or raise max_logp_gap if the difference is meant"
        )


def importance_ratio(policy: Tensor, sampled: Tensor, mask: Tensor, args: TrainingConfig) -> Tensor:
    """TRL's correction of what the engine sampled towards what the policy would have.

    Args:
        policy: (B, C) log-probabilities of the policy.
        sampled: (B, C) of the engine, NaN where it has none.
        mask: (B, C), 0 on padding.
        args: mode and bounds.

    Returns:
        (B, C) ratios, or (B, 1) in the sequence modes; beyond the bounds they are cut to them, or 0 in the
        mask modes.
    """
    difference = torch.nan_to_num((policy - sampled) * mask, nan=0.0)
    if args.vllm_importance_sampling_mode.startswith("sequence"):
        difference = difference.sum(dim=-1, keepdim=True)
    ratio = difference.exp()
    low = args.vllm_importance_sampling_clip_min
    high = args.vllm_importance_sampling_clip_max
    kept = ratio.clamp(low, high) if (low, high) != (None, None) else ratio
    truncates = args.vllm_importance_sampling_mode.endswith("truncate")
    return kept if truncates else ratio.masked_fill(kept != ratio, 0.0)
