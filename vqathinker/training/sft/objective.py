"""The loss of a batch in which texts are learned, levels as distributions, and which of two media is better.

Source: VITAL (arXiv 2511.17962), Eqs. 1-5. A sample counts as one, however long it is; so does a pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vqathinker.scale import LEVEL_VALUES, VOCABULARIES
from vqathinker.training.packing import IGNORE
from vqathinker.training.sft.losses import PAIR_LOSSES, divergences, focal_terms


@dataclass
class LossConfig:
    """What samples are learned by.

    Attributes:
        text_loss: of texts: cross entropy, or focal loss, which weighs a token less, the surer the model is.
        focal_alpha: α of the focal loss.
        focal_beta: β of the focal loss.
        level_loss: of samples with a distribution over levels: its divergence from the softmax over the five
            words or over the whole vocabulary; none learns the word that the answer says.
        level_words: which words tell a level: vqa2 (high good fair poor low) or ours (excellent good fair
            poor bad).
        prefix_weight: γ, of the cross entropy of what stands before a level word.
        pair_loss: of pairs: the divergence of preferences (VITAL), or their fidelity (DeQA-Score).
        pair_level_weight: of the level losses of a pair's media beside it.
        level_values: of the levels, best first, by which media are compared.
    """

    text_loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_alpha: float = 1.0
    focal_beta: float = 2.0
    level_loss: Literal["none", "words", "vocabulary"] = "none"
    level_words: Literal["vqa2", "ours"] = "vqa2"
    prefix_weight: float = 0.01
    pair_loss: Literal["divergence", "fidelity"] = "divergence"
    pair_level_weight: float = 0.0
    level_values: list[float] = field(default_factory=lambda: [5.0, 4.0, 3.0, 2.0, 1.0])

    def __post_init__(self) -> None:
        values = self.level_values
        if len(values) != len(LEVEL_VALUES) or values != sorted(set(values), reverse=True):
            raise ValueError(f"level_values {values}: expected five that fall, the best level's first")

    @property
    def reads_levels(self) -> bool:
        """Whether a distribution over levels is learned where a sample has one."""
        return self.level_loss != "none"

    @property
    def is_plain(self) -> bool:
        """Whether everything but pairs is learned by cross entropy."""
        return self.text_loss == "cross_entropy" and not self.reads_levels

    @property
    def words(self) -> Sequence[str]:
        """The level words, best first."""
        return VOCABULARIES[self.level_words]


@dataclass(frozen=True)
class Targets:
    """What the B rows of a batch are to say.

    Attributes:
        labels: (B, L) ids of the text to learn, -100 elsewhere.
        level_places: (B,) where in L a row tells a level, -1 for nowhere.
        levels: (B, 5) the distribution there, NaN where it is not known.
        preference: (B,) of a row and the next one, which are a pair; NaN for other rows.
    """

    labels: Tensor
    level_places: Tensor
    levels: Tensor
    preference: Tensor

    @classmethod
    def take(cls, batch: dict[str, Tensor]) -> Targets:
        """Take them out of a batch, whose rest is for the model."""
        return cls(*(batch.pop(name) for name in ("labels", "level_places", "levels", "preference")))

    def positions(self) -> Tensor:
        """(P,) the positions in L at which some row predicts something, at least one."""
        told = (self.labels != IGNORE).any(dim=0)
        told[self.level_places[self.level_places >= 0]] = True
        return (told.nonzero()[:, 0] - 1).clamp(min=0) if told.any() else told.new_zeros(1, dtype=torch.long)


@dataclass(frozen=True)
class Losses:
    """What a batch costs.

    Attributes:
        total: the mean over its samples.
        parts: sum and number of the losses of each kind, by name.
    """

    total: Tensor
    parts: Mapping[str, tuple[Tensor, int]]


def objective(
    logits: Tensor, positions: Tensor, targets: Targets, config: LossConfig, level_ids: Sequence[int]
) -> Losses:
    """The losses of a batch.

    Args:
        logits: (B, P, V).
        positions: (P,) where they stand, as `Targets.positions` says.
        targets: of the rows.
        config: which losses.
        level_ids: of the level words, best first.
    """
    logits = logits.float()
    tells_level = targets.level_places >= 0
    is_first = ~targets.preference.isnan()
    in_pair = is_first | is_first.roll(1)
    sums, lengths = _texts(logits, positions, targets.labels, config, by_surprise=~tells_level)
    places = torch.searchsorted(positions, (targets.level_places - 1).clamp(min=0))
    at_level = logits[torch.arange(len(logits), device=logits.device), places]  # (B, V)
    # a row that tells a level: its tokens before the word weigh γ, and the word is one token more
    levels = (config.prefix_weight * sums + _divergences(at_level, targets.levels, config, level_ids)) / (
        lengths + 1
    )
    texts = sums / lengths.clamp(min=1)
    word_logits = at_level[:, level_ids]
    first = is_first.nonzero()[:, 0]
    pair_loss = PAIR_LOSSES[config.pair_loss]
    pairs = logits.new_zeros(())
    if len(first):
        wanted = targets.preference[first]
        mean = pair_loss(word_logits[first], word_logits[first + 1], wanted, config.level_values)
        pairs = mean * len(first)
    has_text = ~tells_level & (lengths > 0)
    alone = tells_level & ~in_pair
    parts = {
        "text": (texts[has_text].sum(), int(has_text.sum())),
        "levels": (levels[alone].sum(), int(alone.sum())),
        "pairs": (pairs, len(first)),
    }
    total = sum((part for part, _ in parts.values()), logits.sum() * 0)
    if config.pair_level_weight:
        total = total + config.pair_level_weight * levels[in_pair].sum()
    return Losses(total / max(1, sum(number for _, number in parts.values())), parts)


def _texts(
    logits: Tensor, positions: Tensor, labels: Tensor, config: LossConfig, *, by_surprise: Tensor
) -> tuple[Tensor, Tensor]:
    """(B,) sums of what the tokens of each row cost, and (B,) their numbers.

    Args:
        logits: (B, P, V).
        positions: (P,).
        labels: (B, L).
        config: which loss.
        by_surprise: (B,) rows to which the focal loss applies if it is chosen; cross entropy for others.
    """
    wanted = labels[:, positions + 1]
    counts = wanted != IGNORE
    rows = counts.nonzero()[:, 0]
    surprise = F.cross_entropy(logits[counts], wanted[counts], reduction="none")
    terms = surprise
    if config.text_loss == "focal":
        weighed = focal_terms(surprise, config.focal_alpha, config.focal_beta)
        terms = torch.where(by_surprise[rows], weighed, surprise)
    return logits.new_zeros(len(labels)).index_add(0, rows, terms), counts.sum(dim=1)


def _divergences(at_level: Tensor, levels: Tensor, config: LossConfig, ids: Sequence[int]) -> Tensor:
    """(B,) divergences from the distributions over levels; 0 for rows without one."""
    known = ~levels.isnan().any(dim=1)
    chances = at_level[:, ids] if config.level_loss == "words" else at_level
    log_probs = chances.log_softmax(dim=-1)
    log_probs = log_probs if config.level_loss == "words" else log_probs[:, ids]
    return torch.where(known, divergences(log_probs, levels.nan_to_num()), 0.0)
