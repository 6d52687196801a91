"""What supervised training minimises, as functions of logits.

Sources: VITAL (arXiv 2511.17962), Eqs. 1-5; DeQA-Score (arXiv 2501.11561), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vqathinker.scale import LEVEL_VALUES

EPSILON = 1e-8  # away from where a root's slope has no end


def focal(logits: Tensor, labels: Tensor, alpha: float = 1.0, beta: float = 2.0) -> Tensor:
    """Cross entropy that weighs a token less, the surer the model is: the mean of −α·(1−p)^β·log p (Eq. 5).

    Args:
        logits: (N, V).
        labels: (N,) ids, of which p is the probability.
        alpha: α.
        beta: β; with 0 and α = 1 this is cross entropy.
    """
    surprise = F.cross_entropy(logits, labels, reduction="none")
    return focal_terms(surprise, alpha, beta).mean()


def focal_terms(surprise: Tensor, alpha: float, beta: float) -> Tensor:
    """(N,) what `focal` takes the mean of, from (N,) −log p."""
    # at p = 1 a power below 1 would have a slope without end
    doubt = (-torch.expm1(-surprise)).clamp(min=EPSILON)
    return alpha * doubt**beta * surprise


def level_divergence(level_logits: Tensor, target: Tensor) -> Tensor:
    """KL(target ‖ softmax) over the five levels, the mean over N (in Eq. 1).

    Args:
        level_logits: (N, 5) logits of the level words, best first.
        target: (N, 5) probabilities.
    """
    return divergences(level_logits.log_softmax(dim=-1), target).mean()


def divergences(log_probs: Tensor, target: Tensor) -> Tensor:
    """(N,) KL(target ‖ p) of (N, 5) log p and targets; p need not sum to 1 over the five."""
    return (torch.xlogy(target, target) - target * log_probs).sum(dim=-1)


def pair_divergence(
    level_logits_1: Tensor,
    level_logits_2: Tensor,
    preference: Tensor,
    values: Sequence[float] = LEVEL_VALUES,
) -> Tensor:
    """KL of preferences, the mean over N (Eqs. 2-4).

    The first is better with P = Φ((μ1 − μ2) / √2), μ = Σ p·value: both spreads are 1. So values from 0 to 1
    would leave P within .24 and .76, and no preference could be learned.

    Args:
        level_logits_1: (N, 5) logits of the level words of the first, best first.
        level_logits_2: (N, 5) those of the second.
        preference: (N,) 1, 0.5 or 0 for a first one that is better, alike or worse.
        values: of the levels.
    """
    margin = _margins(level_logits_1, level_logits_2, values)
    log_better = torch.special.log_ndtr(margin)
    log_worse = torch.special.log_ndtr(-margin)
    better = preference.to(margin)
    terms = [
        torch.xlogy(share, share) - share * log
        for share, log in ((better, log_better), (1 - better, log_worse))
    ]
    mean: Tensor = (terms[0] + terms[1]).mean()
    return mean


def pair_fidelity(
    level_logits_1: Tensor,
    level_logits_2: Tensor,
    preference: Tensor,
    values: Sequence[float] = LEVEL_VALUES,
) -> Tensor:
    """1 − √(P·g) − √((1−P)·(1−g)), the mean over N (DeQA-Score).

    P and the arguments are those of `pair_divergence`, g is the preference.
    """
    better = torch.special.ndtr(_margins(level_logits_1, level_logits_2, values))
    wanted = preference.to(better)
    agreed = (better * wanted + EPSILON).sqrt() + ((1 - better) * (1 - wanted) + EPSILON).sqrt()
    mean: Tensor = (1 - agreed).mean()
    return mean


PAIR_LOSSES = {"divergence": pair_divergence, "fidelity": pair_fidelity}


def _margins(level_logits_1: Tensor, level_logits_2: Tensor, values: Sequence[float]) -> Tensor:
    """(N,) differences of the expected levels in standard deviations of a difference."""
    axis = level_logits_1.new_tensor(values)
    first, second = ((logits.softmax(dim=-1) @ axis) for logits in (level_logits_1, level_logits_2))
    return (first - second) / 2**0.5
