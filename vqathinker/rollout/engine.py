"""What every rollout engine takes and gives. Knows no engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")

DIVERGED = "the policy has diverged; go on from an earlier checkpoint with a lower learning rate"


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

    @property
    def logit_temperature(self) -> float:
        """What logits are divided by before a log-probability is read: 1 when greedy."""
        return self.temperature or 1.0

    def num_drawn(self, num_responses: int) -> int:
        """Responses to draw per request; greedy ones are drawn once and repeated.

        >>> Sampling().num_drawn(4), Sampling(temperature=0.9).num_drawn(4)
        (1, 4)
        """
        return num_responses if self.temperature else 1

    def repeated(self, drawn: Sequence[list[T]], num_responses: int) -> list[list[T]]:
        """The responses of each request as often as they are wanted.

        >>> Sampling().repeated([["a"], ["b"]], 2)
        [['a', 'a'], ['b', 'b']]
        """
        return [group * (num_responses // self.num_drawn(num_responses)) for group in drawn]


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
        watched: for each token those of the ids that were asked for, empty without any.
    """

    token_ids: list[int]
    logprobs: list[float]
    watched: list[list[float]] = field(default_factory=list)


def check_room(requests: Sequence[RolloutRequest], sampling: Sampling, max_length: int) -> None:
    """Raise a ValueError if a prompt leaves no room for the longest response."""
    longest = max((len(request.prompt_ids) for request in requests), default=0)
    if longest + sampling.max_new_tokens > max_length:
        raise ValueError(
            f"a prompt of {longest} and a response of {sampling.max_new_tokens} tokens do not fit into "
            f"{max_length}: allow shorter responses (--max-new-tokens, in training --max_completion_length), "
            "take fewer or smaller frames, or give vLLM a longer context (--vllm_max_model_length, "
            "a server's --max-model-len)"
        )


def checked_response(token_ids: Sequence[int], logprobs: Sequence[float]) -> Response:
    """A response of an engine.

    Raises:
        RuntimeError: if it has no token, or a log-probability that is no number.
    """
    if not token_ids:
        raise RuntimeError("the engine returned a response without a token, not even an end of sequence")
    if not all(map(math.isfinite, logprobs)):
        raise RuntimeError(f"the engine returned a log-probability that is no number: {DIVERGED}")
    return Response(list(token_ids), list(logprobs))


class RolloutEngine(Protocol):
    """Generates responses; sees exactly the embeddings it is given.

    Attributes:
        tells_probabilities: whether `generate` takes `watched`, ids whose log-probabilities are told for
            every token, whatever was drawn.
    """

    tells_probabilities: bool

    def generate(
        self, requests: Sequence[RolloutRequest], num_responses: int, sampling: Sampling
    ) -> list[list[Response]]:
        """Return `num_responses` responses for every request, in order."""
        ...

    def versions(self) -> dict[str, str]:
        """Versions of what answers, beside those of the libraries that are there anyway."""
        ...
