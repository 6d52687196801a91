"""What every rollout engine takes and gives. Knows no engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 is greedy decoding.
        top_p: nucleus mass, 1.0 for all.
        top_k: number of candidates, 0 for all.
        max_new_tokens: longest response in tokens.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 2048

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0 or self.max_new_tokens < 1:
            raise ValueError(f"impossible sampling settings: {self}")


@dataclass(frozen=True)
class RolloutRequest:
    """One video's prompt.

    Attributes:
        prompt_ids: token ids with one placeholder per visual feature.
        embeds: (number of placeholders, d) features in the order of the placeholders.
        cache_key: names these features; changes whenever they do.
    """

    prompt_ids: Sequence[int]
    embeds: Tensor
    cache_key: str


@dataclass(frozen=True)
class Response:
    """One sampled response.

    Attributes:
        token_ids: at least one id; ends with an end-of-sequence id unless cut at the limit.
        logprobs: natural log-probability of each token at the sampling temperature (temperature 1 when
            greedy), over the whole vocabulary but the suppressed ids, before top-k and top-p.
    """

    token_ids: list[int]
    logprobs: list[float]


class RolloutEngine(Protocol):
    """Generates responses; sees exactly the embeddings it is given."""

    def generate(
        self, requests: Sequence[RolloutRequest], num_responses: int, sampling: Sampling
    ) -> list[list[Response]]:
        """Return `num_responses` responses for every request, in order."""
        ...
