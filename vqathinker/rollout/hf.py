"""The embedded engine: `generate` of transformers on the very model that trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import Cache, GenerationConfig, LogitsProcessor, LogitsProcessorList

from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout.encoder import without_dropout
from vqathinker.rollout.engine import DIVERGED, Response, RolloutRequest, Sampling, check_room


class HFEngine:
    """Rollouts by Hugging Face generation.

    Args:
        model: the policy.
        processor: gives the suppressed and the end-of-sequence ids.
        max_sequences: most sequences generated at a time; bounds the memory of the key-value cache.
    """

    tells_probabilities = True

    def __init__(
        self,
        model: VQAThinkerForConditionalGeneration,
        processor: VQAThinkerProcessor,
        *,
        max_sequences: int = 256,
    ) -> None:
        self.model = model
        self.processor = processor
        self.max_sequences = max_sequences

    def versions(self) -> dict[str, str]:
        """None: transformers is told anyway."""
        return {}

    @property
    def eos_ids(self) -> list[int]:
        """Every id that ends a response, the model's and the tokenizer's."""
        declared = self.model.generation_config.eos_token_id
        declared = [declared] if isinstance(declared, int) else declared or []
        return sorted({*declared, self.processor.tokenizer.eos_token_id})

    @torch.no_grad()
    def generate(
        self,
        requests: Sequence[RolloutRequest],
        num_responses: int,
        sampling: Sampling,
        *,
        watched: Sequence[int] = (),
    ) -> list[list[Response]]:
        """Return `num_responses` responses for every request, in order; restores the training mode.

        Args:
            requests: the prompts.
            num_responses: for each of them.
            sampling: how tokens are drawn.
            watched: ids whose log-probabilities are told for every token, whatever was drawn.

        Raises:
            ValueError: if a prompt leaves no room for the longest response.
            RuntimeError: if a log-probability is no number.
        """
        context: int = self.model.config.text_config.max_position_embeddings  # type: ignore[union-attr]
        check_room(requests, sampling, context)
        with without_dropout(self.model):
            step = max(1, self.max_sequences // num_responses)
            chunks = [requests[i : i + step] for i in range(0, len(requests), step)]
            return [
                row
                for chunk in chunks
                for row in self._generate_chunk(chunk, num_responses, sampling, watched)
            ]

    def _generate_chunk(
        self,
        requests: Sequence[RolloutRequest],
        num_responses: int,
        sampling: Sampling,
        watched: Sequence[int],
    ) -> list[list[Response]]:
        drawn = sampling.num_drawn(num_responses)
        embeds, mask = self._left_padded(requests)
        cache = self._prefill(embeds, mask)
        cache.batch_repeat_interleave(drawn)
        chosen = ChosenLogprobs(sampling.logit_temperature, watched)
        settings = self._generation_config(sampling)
        with without_defaults(self.model):
            sequences: Tensor = self.model.generate(  # type: ignore[misc, assignment]
                inputs_embeds=embeds.repeat_interleave(drawn, 0),
                attention_mask=mask.repeat_interleave(drawn, 0),
                past_key_values=cache,
                generation_config=settings,
                logits_processor=LogitsProcessorList([chosen]),
                synced_gpus=None if self._is_sharded else False,
            )
        logprobs = chosen.finish(sequences)
        ends = torch.isin(sequences, torch.tensor(self.eos_ids, device=sequences.device)).int()
        lengths = torch.where(ends.any(1), ends.argmax(1) + 1, sequences.shape[1]).tolist()
        responses = [
            Response(ids[:n], values[:n], others[:n] if watched else [])
            for ids, values, others, n in zip(
                sequences.tolist(), logprobs.tolist(), chosen.others().tolist(), lengths, strict=True
            )
        ]
        groups = [responses[i : i + drawn] for i in range(0, len(responses), drawn)]
        return sampling.repeated(groups, num_responses)

    @property
    def _is_sharded(self) -> bool:
        """Whether ZeRO-3 gathers the weights layer by layer, for which all processes must take each step."""
        return not all(parameter.numel() for parameter in self.model.parameters())

    def _left_padded(self, requests: Sequence[RolloutRequest]) -> tuple[Tensor, Tensor]:
        """(B, L, d) embeddings padded on the left and their (B, L) mask."""
        table = self.model.get_input_embeddings()
        device = self.model.device
        placeholders = torch.tensor(self.processor.placeholder_ids, device=device)
        rows = []
        for request in requests:
            ids = torch.tensor(request.prompt_ids, device=device)
            row = table(ids)
            row[torch.isin(ids, placeholders)] = request.embeds.to(row)
            rows.append(row)
        masks = [torch.ones(len(row), dtype=torch.long, device=row.device) for row in rows]
        embeds, mask = (
            nn.utils.rnn.pad_sequence(values, batch_first=True, padding_side="left")
            for values in (rows, masks)
        )
        return embeds, mask

    def _prefill(self, embeds: Tensor, mask: Tensor) -> Cache:
        """Keys and values of the prompts (B, L, d) without their last tokens, once for all responses."""
        output = self.model.model(
            inputs_embeds=embeds[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=(mask[:, :-1].cumsum(1) - 1).clamp(min=0),
            use_cache=True,
        )
        cache: Cache = output.past_key_values
        return cache

    def _generation_config(self, sampling: Sampling) -> GenerationConfig:
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        return GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=sampling.temperature > 0,
            suppress_tokens=self.processor.suppressed_ids,
            eos_token_id=self.eos_ids,
            pad_token_id=self.processor.tokenizer.pad_token_id,
            bos_token_id=None,
            use_cache=True,
            **(drawn if sampling.temperature else {}),
        )


@contextmanager
def without_defaults(model: VQAThinkerForConditionalGeneration) -> Iterator[None]:
    """Set the checkpoint's own generation settings aside: transformers takes them for all that is not given.

    Beams, penalties, forced and further suppressed ids would make the tokens, or their log-probabilities,
    other ones than the request asks for.
    """
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


class ChosenLogprobs(LogitsProcessor):
    """Reads the log-probability of every drawn token, keeping one step of logits at a time.

    Transformers calls it after suppression and before temperature, top-k and top-p; it changes nothing.
    """

    def __init__(self, temperature: float, watched: Sequence[int] = ()) -> None:
        self.temperature = temperature
        self.watched = list(watched)
        self.steps: list[Tensor] = []
        self.watched_steps: list[Tensor] = []
        self.pending: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Record the token drawn from the previous scores and keep the new ones."""
        if self.pending is not None:
            self.steps.append(self.pending.gather(1, input_ids[:, -1:]))
        self.pending = (scores.float() / self.temperature).log_softmax(-1)
        if self.pending[:, 0].isnan().any():  # one NaN among the logits makes all of them NaN
            raise RuntimeError(f"the policy's log-probabilities are no numbers: {DIVERGED}")
        self.watched_steps.append(self.pending[:, self.watched])
        return scores

    def others(self) -> Tensor:
        """(B, T, W) log-probabilities of the W watched ids."""
        return torch.stack(self.watched_steps, dim=1)

    def finish(self, sequences: Tensor) -> Tensor:
        """(B, T) log-probabilities of the generated (B, T) ids."""
        assert self.pending is not None
        return torch.cat([*self.steps, self.pending.gather(1, sequences[:, -1:])], dim=1)
