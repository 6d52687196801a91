"""What can be chosen and checked before a model is loaded. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqathinker.model import VQAThinkerProcessor
    from vqathinker.rollout import Sampling

ENGINES = ("hf", "vllm")
DTYPES = ("float32", "bfloat16", "float16", "auto")
COMBINATIONS = ("mean", "median", "trimmed", "confidence")
SAMPLED: dict[str, Any] = {"temperature": 0.9, "top_k": 50}  # as in training
DIGITS = "0123456789"


@dataclass(frozen=True)
class Mode:
    """How a score is read from the model.

    Greedy by default: the number of the most likely response. One of three others:

    Attributes:
        samples: responses to draw; the score is their combination, each set to the scale before.
        expected: Σ over the digits of the greedy answer of place value × Σ_d d·p(d | what stands before),
            p over the ten digits.
        levels: 1 + 4·Σ weight·p over five level words as the next word of "The quality of the video is",
            weights 1, 0.75, 0.5, 0.25, 0 (VQA², arXiv 2411.03795; Q-Align, 2312.17090); words and question
            are those that the checkpoint has for it.
        combine: mean, median, trimmed (mean without the lowest and the highest quarter) or confidence (mean
            weighted by each response's probability per token, its geometric mean).
        seed: of the samples.

    Raises:
        ValueError: if they contradict one another.
    """

    samples: int = 1
    expected: bool = False
    levels: bool = False
    combine: str = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"{self.samples} samples: at least one is needed")
        if [self.samples > 1, self.expected, self.levels].count(True) > 1:
            raise ValueError("choose one of samples, expected and levels")
        if self.combine not in COMBINATIONS:
            raise ValueError(f"unknown combination {self.combine!r}: one of {', '.join(COMBINATIONS)}")
        if self.combine != "mean" and self.samples == 1:
            raise ValueError(f"combine={self.combine!r} needs several samples")

    @property
    def name(self) -> str:
        """greedy, samples, expected or levels."""
        chosen = {"samples": self.samples > 1, "expected": self.expected, "levels": self.levels}
        return next((name for name, is_chosen in chosen.items() if is_chosen), "greedy")

    @property
    def needs_probabilities(self) -> bool:
        """Whether the engine has to tell the probabilities of tokens that it did not draw."""
        return self.expected or self.levels

    def question(self, processor: VQAThinkerProcessor) -> str | None:
        """What is asked instead of the checkpoint's own question."""
        return processor.level_question if self.levels else None

    def opening_ids(self, processor: VQAThinkerProcessor, *, is_image: bool = False) -> list[int]:
        """Ids that the response starts with."""
        return processor.level_opening_ids(is_image=is_image) if self.levels else []

    def watched_ids(self, processor: VQAThinkerProcessor) -> list[int]:
        """Ids whose probabilities count.

        Raises:
            ValueError: if the tokenizer cannot tell the digits or the levels apart.
        """
        if self.levels:
            return processor.level_ids
        return processor.first_ids(DIGITS) if self.expected else []

    def sampling(self, max_new_tokens: int) -> Sampling:
        """How tokens are drawn."""
        from vqathinker.rollout import Sampling

        limit = 1 if self.levels else max_new_tokens
        drawn = SAMPLED if self.samples > 1 else {}
        return Sampling(**drawn, max_new_tokens=limit)
