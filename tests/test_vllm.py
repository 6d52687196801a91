"""The vLLM engine against the policy in Hugging Face form: the same tokens, the same log-probabilities."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vqathinker.model.assemble import load_policy
from vqathinker.rollout import HFEngine, Response, RolloutRequest, Sampling, VideoEncoder
from vqathinker.rollout.vllm import VLLMEngine

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]  # vLLM's own imports warn

NUM_PROMPTS = 50
GREEDY = Sampling(max_new_tokens=12)
MAX_LENGTH = 160


@pytest.fixture(scope="module")
def policy(tiny_checkpoint: Path) -> tuple[Any, Any]:
    model, processor = load_policy(tiny_checkpoint, dtype=torch.float32)
    return model.eval(), processor


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path, policy: tuple[Any, Any]) -> VLLMEngine:
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    return VLLMEngine(tiny_checkpoint, policy[1], max_length=MAX_LENGTH, dtype="float32")


def requests(policy: tuple[Any, Any], step: int, number: int = 4) -> list[RolloutRequest]:
    """Videos of noise, the same at every step; the keys carry the step."""
    model, processor = policy
    encoder = VideoEncoder(model, processor, processor.training)
    rng = np.random.default_rng(7)
    videos = encoder.encode([rng.integers(0, 255, (6, 60, 60, 3), dtype=np.uint8) for _ in range(number)])
    return [encoder.request(video, f"{i}@{step}") for i, video in enumerate(videos)]


def expected_logprobs(
    policy: tuple[Any, Any], request: RolloutRequest, response: Response, temperature: float
) -> torch.Tensor:
    """Log-probabilities of a response by one plain forward pass."""
    model, processor = policy
    ids = torch.tensor([[*request.prompt_ids, *response.token_ids]])
    embeds = model.get_input_embeddings()(ids).detach()
    marks = torch.isin(ids[0, : len(request.prompt_ids)], torch.tensor(processor.placeholder_ids))
    embeds[0, : len(request.prompt_ids)][marks] = request.embeds
    with torch.no_grad():
        logits = model(inputs_embeds=embeds).logits[0, len(request.prompt_ids) - 1 : -1].float() / temperature
    logits[:, processor.suppressed_ids] = -torch.inf
    return logits.log_softmax(-1).gather(1, torch.tensor(response.token_ids)[:, None])[:, 0]


def assert_same(ours: Sequence[list[Response]], theirs: Sequence[list[Response]]) -> None:
    for (one,), (other,) in zip(ours, theirs, strict=True):
        assert one.token_ids == other.token_ids
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-3)


def test_greedy_equals_hugging_face_before_and_after_updates(
    policy: tuple[Any, Any], engine: VLLMEngine
) -> None:
    model, processor = policy
    reference = HFEngine(model, processor)
    generator = torch.Generator().manual_seed(0)
    before = None
    for step in range(4):
        asked = requests(policy, step, NUM_PROMPTS)
        found = reference.generate(asked, 1, GREEDY)
        assert_same(engine.generate(asked, 1, GREEDY), found)
        assert found != before
        before = found
        with torch.no_grad():  # vision, motion and language weights
            for weight in model.parameters():
                weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
        engine.synchronise(model.named_parameters())


def test_samples_differ_and_their_logprobs_are_those_of_training(
    policy: tuple[Any, Any], engine: VLLMEngine
) -> None:
    engine.synchronise(policy[0].named_parameters())
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=20, max_new_tokens=10)
    asked = requests(policy, 100)
    for request, group in zip(asked, engine.generate(asked, 4, sampling), strict=True):
        assert len({tuple(response.token_ids) for response in group}) == 4
        for response in group:
            expected = expected_logprobs(policy, request, response, 0.7)
            np.testing.assert_allclose(response.logprobs, expected, atol=1e-3)


def test_suppressed_ids_are_never_drawn(policy: tuple[Any, Any], engine: VLLMEngine) -> None:
    hot = Sampling(temperature=50.0, max_new_tokens=40)
    drawn = {i for g in engine.generate(requests(policy, 200), 16, hot) for r in g for i in r.token_ids}
    assert len(drawn) > 100
    assert not drawn & set(policy[1].suppressed_ids)


def test_an_empty_response_is_its_end_alone(policy: tuple[Any, Any], engine: VLLMEngine) -> None:
    model, processor = policy
    head = model.lm_head.weight.detach().clone()
    try:
        with torch.no_grad():
            hidden = model(inputs_embeds=_embeds(policy), output_hidden_states=True).hidden_states[-1][0, -1]
            model.lm_head.weight[processor.tokenizer.eos_token_id] = 100 * hidden
        engine.synchronise(model.named_parameters())
        (group,) = engine.generate(requests(policy, 300, 1), 2, GREEDY)
    finally:
        model.lm_head.weight.data.copy_(head)
        engine.synchronise(model.named_parameters())
    assert [response.token_ids for response in group] == [[processor.tokenizer.eos_token_id]] * 2


def _embeds(policy: tuple[Any, Any]) -> torch.Tensor:
    (request,) = requests(policy, 0, 1)
    ids = torch.tensor([list(request.prompt_ids)])
    embeds = policy[0].get_input_embeddings()(ids).detach()
    embeds[torch.isin(ids, torch.tensor(policy[1].placeholder_ids))] = request.embeds
    return embeds


@pytest.mark.parametrize("limit", [1, 5])
def test_responses_are_cut(policy: tuple[Any, Any], engine: VLLMEngine, limit: int) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=limit)
    for group in engine.generate(requests(policy, 400), 2, sampling):
        for response in group:
            assert len(response.token_ids) == len(response.logprobs) <= limit


def test_a_prompt_that_leaves_no_room(policy: tuple[Any, Any], engine: VLLMEngine) -> None:
    (request,) = requests(policy, 500, 1)
    long = RolloutRequest([*request.prompt_ids, *[9] * MAX_LENGTH], request.embeds, "long")
    with pytest.raises(ValueError, match="a response of 12 tokens do not fit"):
        engine.generate([long], 1, GREEDY)


def test_weights_under_foreign_names(policy: tuple[Any, Any], engine: VLLMEngine) -> None:
    with pytest.raises(RuntimeError, match="no weights of a language model among"):
        engine.synchronise((f"module.{name}", w) for name, w in policy[0].named_parameters())


def test_a_prompt_without_a_video(policy: tuple[Any, Any], engine: VLLMEngine) -> None:
    model, processor = policy
    ids = processor.tokenizer("Rate the quality from 1 to 5.")["input_ids"]
    asked = [RolloutRequest(ids, torch.empty(0, model.config.text_config.hidden_size), "text")]
    engine.synchronise(model.named_parameters())
    assert_same(engine.generate(asked, 1, GREEDY), HFEngine(model, processor).generate(asked, 1, GREEDY))


def test_a_diverged_policy(policy: tuple[Any, Any], engine: VLLMEngine) -> None:
    model, _ = policy
    broken = ((name, torch.full_like(w, torch.nan)) for name, w in model.named_parameters())
    engine.synchronise(broken)
    try:
        with pytest.raises(RuntimeError, match="diverged"):
            engine.generate(requests(policy, 600, 1), 1, GREEDY)
    finally:
        engine.synchronise(model.named_parameters())
