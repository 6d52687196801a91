"""Engines report what they drew, exactly; videos are encoded once."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from vqathinker import answers
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.video import clip_of, read_keyframes
from vqathinker.rollout import EncodedVideo, HFEngine, RolloutRequest, Sampling, VideoEncoder
from vqathinker.rollout.answer import Answerer, Asking, Viewing, predict

Policies = Callable[..., tuple[Any, Any]]


@pytest.fixture(scope="module")
def policy(checkpoints: dict[str, Path]) -> tuple[Any, Any]:
    """One model for all tests that leave it as it is."""
    from vqathinker.checkpoints.assemble import load_policy

    model, processor = load_policy(checkpoints["slowfast"])
    return model.eval(), processor


@pytest.fixture(scope="module")
def encoder(policy: tuple[Any, Any]) -> VideoEncoder:
    return VideoEncoder(*policy, policy[1].scoring)


@pytest.fixture(scope="module")
def videos(encoder: VideoEncoder) -> list[EncodedVideo]:
    return encoder.encode([noise(6, seed=1), noise(6, seed=2), noise(4, seed=3)])


@pytest.fixture(scope="module")
def requests(encoder: VideoEncoder, videos: list[EncodedVideo]) -> list[RolloutRequest]:
    return [encoder.request(video, str(i)) for i, video in enumerate(videos)]


def noise(num_frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 40, 50, 3), dtype=np.uint8)


def next_logits(policy: tuple[Any, Any], video: EncodedVideo, prompt: list[int], reply: list[int]) -> Tensor:
    """(len(reply) + 1, V) logits after the prompt and each token of the reply, by one plain forward pass."""
    model, processor = policy
    ids = torch.tensor([[*prompt, *reply]])
    logits = model(
        input_ids=ids,
        pixel_values=video.pixels,
        motion_features=video.motion_features[None],
        placeholders=torch.arange(ids.shape[1])[None] < len(prompt),
    ).logits[0, len(prompt) - 1 :]
    logits[:, processor.suppressed_ids] = -math.inf
    return logits


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 1.9])
@pytest.mark.parametrize("motion", ["slowfast", "fast", "none"])
def test_logprobs_equal_a_full_forward_pass(policies: Policies, motion: str, temperature: float) -> None:
    model, processor = policies(motion)
    model.generation_config.repetition_penalty = 1.3  # a checkpoint's own habits do not count
    encoder = VideoEncoder(model, processor, processor.scoring)
    videos = encoder.encode([noise(6, seed=1), noise(4, seed=3)])
    requests = [encoder.request(video, str(i)) for i, video in enumerate(videos)]
    sampling = Sampling(temperature=temperature, top_p=0.9, top_k=20, max_new_tokens=12)
    groups = HFEngine(model, processor).generate(requests, 3, sampling)
    assert [len(group) for group in groups] == [3, 3]
    for video, request, group in zip(videos, requests, groups, strict=True):
        for response in group:
            ids = response.token_ids
            assert 1 <= len(ids) == len(response.logprobs)
            logits = next_logits((model, processor), video, list(request.prompt_ids), ids)[:-1]
            expected = (logits / (temperature or 1.0)).log_softmax(-1)
            chosen = expected[torch.arange(len(ids)), ids]
            torch.testing.assert_close(torch.tensor(response.logprobs), chosen, rtol=0, atol=1e-5)
            if temperature == 0:
                assert ids == logits.argmax(-1).tolist()
            else:
                assert (
                    logits.argsort(-1, descending=True).argsort(-1)[torch.arange(len(ids)), ids] < 20
                ).all()


# of transformers' generation settings all that change tokens, log-probabilities, their form or their number
ODD: dict[str, Any] = {
    "temperature": 0.2, "top_p": 0.3, "top_k": 2, "min_p": 0.4, "typical_p": 0.5, "top_h": 0.4,
    "epsilon_cutoff": 0.01, "eta_cutoff": 0.01, "repetition_penalty": 1.7, "encoder_repetition_penalty": 1.2,
    "no_repeat_ngram_size": 2, "bad_words_ids": [[9], [10]], "forced_bos_token_id": 11,
    "forced_eos_token_id": 12, "suppress_tokens": [13, 14], "begin_suppress_tokens": [15],
    "sequence_bias": [[[16], 8.0]], "exponential_decay_length_penalty": (1, 1.9), "guidance_scale": 1.5,
    "remove_invalid_values": True, "renormalize_logits": True, "num_beams": 3, "num_return_sequences": 2,
    "length_penalty": 2.0, "early_stopping": True, "min_length": 9, "min_new_tokens": 9, "max_length": 10,
    "max_time": 1e-4, "stop_strings": ["e"], "penalty_alpha": 0.6, "do_sample": True, "use_cache": False,
    "cache_implementation": "static", "return_dict_in_generate": True, "output_scores": True,
    "prompt_lookup_num_tokens": 2, "bos_token_id": 17, "pad_token_id": 18, "token_healing": True,
}  # fmt: skip


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "names", [*([name] for name in ODD), list(ODD)], ids=lambda names: "+".join(names[:2])
)
def test_the_checkpoints_own_settings_do_not_count(
    policy: tuple[Any, Any],
    requests: list[RolloutRequest],
    temperature: float,
    names: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, processor = policy
    sampling = Sampling(temperature=temperature, max_new_tokens=6)
    torch.manual_seed(0)
    expected = HFEngine(model, processor).generate(requests[:1], 2, sampling)
    odd = copy.deepcopy(model.generation_config)
    for name in names:
        setattr(odd, name, ODD[name])
    monkeypatch.setattr(model, "generation_config", odd)
    torch.manual_seed(0)
    found = HFEngine(model, processor).generate(requests[:1], 2, sampling)
    assert found == expected
    assert model.generation_config is odd


def test_greedy_does_not_depend_on_the_batch(policy: tuple[Any, Any], requests: list[RolloutRequest]) -> None:
    assert len({len(request.prompt_ids) for request in requests}) == 2
    sampling = Sampling(max_new_tokens=16)
    together = HFEngine(*policy).generate(requests, 1, sampling)
    for engine in (HFEngine(*policy, max_sequences=1), HFEngine(*policy, max_sequences=2)):
        parted = engine.generate(requests, 1, sampling)
        for (one,), (other,) in zip(together, parted, strict=True):
            assert one.token_ids == other.token_ids
            np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)


def test_samples_differ_and_follow_the_seed(policy: tuple[Any, Any], requests: list[RolloutRequest]) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=8)
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        drawn.append(HFEngine(*policy).generate(requests, 6, sampling))
    assert drawn[0] == drawn[1]
    for group in drawn[0]:
        assert len({tuple(response.token_ids) for response in group}) == 6


def test_placeholders_are_never_drawn(policy: tuple[Any, Any], requests: list[RolloutRequest]) -> None:
    torch.manual_seed(0)
    groups = HFEngine(*policy).generate(requests[:2], 64, Sampling(temperature=1000.0, max_new_tokens=20))
    drawn = [token for group in groups for response in group for token in response.token_ids]
    assert len(set(drawn)) > 250  # nearly uniform over 323 tokens
    assert not set(drawn) & set(policy[1].suppressed_ids)
    assert all(math.isfinite(value) for group in groups for r in group for value in r.logprobs)


def test_responses_end_at_the_first_end(policies: Policies, requests: list[RolloutRequest]) -> None:
    model, processor = policies()
    ends = [*range(100, 150)]
    model.generation_config.eos_token_id = ends
    engine = HFEngine(model, processor)
    assert engine.eos_ids == [processor.tokenizer.eos_token_id, *ends]
    torch.manual_seed(0)
    groups = engine.generate(requests, 16, Sampling(temperature=5.0, max_new_tokens=6))
    lengths = set()
    for response in (response for group in groups for response in group):
        ended = [token in engine.eos_ids for token in response.token_ids]
        assert not any(ended[:-1])
        assert ended[-1] or len(ended) == 6
        assert len(response.logprobs) == len(ended)
        lengths.add((len(ended), ended[-1]))
    assert (6, False) in lengths
    assert len(lengths) > 3


@pytest.mark.parametrize("limit", [1, 5])
def test_responses_are_cut(policy: tuple[Any, Any], requests: list[RolloutRequest], limit: int) -> None:
    groups = HFEngine(*policy).generate(requests, 2, Sampling(temperature=1.0, max_new_tokens=limit))
    assert max(len(response.token_ids) for group in groups for response in group) == limit


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_is_restored(
    policies: Policies, requests: list[RolloutRequest], training: bool
) -> None:
    model, processor = policies()
    model.train(training)
    HFEngine(model, processor).generate(requests[:1], 1, Sampling(max_new_tokens=1))
    assert model.training is training
    assert model.model.vision_tower.training is training
    assert not model.model.slowfast.training
    with pytest.raises(RuntimeError):
        HFEngine(model, processor).generate(
            [RolloutRequest(requests[0].prompt_ids, torch.zeros(1, 3), "")], 1, Sampling()
        )
    assert model.training is training


def test_nothing_to_do(policy: tuple[Any, Any], encoder: VideoEncoder) -> None:
    assert HFEngine(*policy).generate([], 4, Sampling()) == []
    assert encoder.encode([]) == []


@pytest.mark.parametrize(
    "values", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}, {"max_new_tokens": 0}]
)
def test_impossible_sampling(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Sampling(**values)


def test_every_frame_is_encoded_once(policies: Policies) -> None:
    model, processor = policies()
    seen = []
    model.model.vision_tower.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    encoder = VideoEncoder(model, processor, processor.training)
    clean = encoder.encode([noise(6, seed=1), noise(6, seed=2)])
    twins = encoder.perturb(clean, [np.arange(6)[::-1].copy(), np.array([0, 2, 4])])
    for i, video in enumerate([*clean, *twins]):
        encoder.request(video, str(i))
    assert sum(seen) == encoder.num_encoded_frames == 12


def test_frames_are_encoded_without_dropout(policies: Policies) -> None:
    """Engine and update see the same features of an adapted vision tower."""
    model, processor = policies()
    targets = r".*vision_tower.*(q_proj|v_proj)"
    adapted = get_peft_model(
        model, LoraConfig(target_modules=targets, lora_dropout=0.5, init_lora_weights=False)
    )
    adapted.train()
    encoder = VideoEncoder(model, processor, processor.scoring)
    frames = [np.random.default_rng(0).integers(0, 256, (12, 56, 56, 3), np.uint8)]
    one, other = (encoder.encode(frames)[0].frame_features for _ in range(2))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert adapted.training


@pytest.mark.parametrize("motion", ["slowfast", "fast", "none"])
def test_twins_equal_the_reordered_frames(policies: Policies, motion: str) -> None:
    model, processor = policies(motion)
    encoder = VideoEncoder(model, processor, processor.training)
    clips = [noise(6, seed=1), noise(6, seed=2), noise(6, seed=3)]
    orders = [np.array([5, 4, 3, 2, 1, 0]), np.array([0, 1, 1, 2, 3, 4]), np.array([0, 2, 3, 5])]
    clean = encoder.encode(clips)
    twins = encoder.perturb(clean, orders)
    scratch = encoder.encode([clip[order] for clip, order in zip(clips, orders, strict=True)])
    for original, twin, expected in zip(clean, twins, scratch, strict=True):
        assert torch.equal(twin.pixels, expected.pixels)
        torch.testing.assert_close(twin.frame_features, expected.frame_features)
        torch.testing.assert_close(twin.motion_features, expected.motion_features)
        if motion != "none":
            assert not torch.allclose(twin.motion_features[-1], original.motion_features[-1])
        one, other = encoder.request(twin, "a"), encoder.request(expected, "b")
        assert one.prompt_ids == other.prompt_ids
        torch.testing.assert_close(one.embeds, other.embeds)


@torch.no_grad()
@pytest.mark.parametrize("motion", ["slowfast", "fast", "none"])
def test_requests_hold_what_the_model_merges(policies: Policies, motion: str) -> None:
    model, processor = policies(motion)
    encoder = VideoEncoder(model, processor, processor.training)
    (video,) = encoder.encode([noise(6, seed=1)])
    request = encoder.request(video, "a")
    ids = torch.tensor([request.prompt_ids])
    tokens = model.model.motion_projector(video.motion_features[None]) if motion != "none" else torch.zeros(0)
    merged = model.model.merge(ids, video.frame_features, tokens)[0]
    visual = torch.isin(ids[0], torch.tensor(processor.placeholder_ids))
    torch.testing.assert_close(request.embeds, merged[visual])


def test_encoding_many_videos_equals_one_by_one(
    encoder: VideoEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [noise(n, seed=n) for n in (6, 4, 6, 3, 6)]
    together = encoder.encode(clips)
    monkeypatch.setattr("vqathinker.rollout.encoder.FRAMES_PER_CALL", 7)
    for video, parted, clip in zip(together, encoder.encode(clips), clips, strict=True):
        (alone,) = encoder.encode([clip])
        for other in (parted, alone):
            torch.testing.assert_close(video.frame_features, other.frame_features)
            torch.testing.assert_close(video.motion_features, other.motion_features)


def test_question_is_replaced(policy: tuple[Any, Any], videos: list[EncodedVideo]) -> None:
    encoder = VideoEncoder(*policy, policy[1].scoring)
    text = policy[1].tokenizer.decode(encoder.request(videos[0], "a", "How sharp?").prompt_ids)
    assert "How sharp?" in text


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_predict_keeps_the_order(
    policy: tuple[Any, Any],
    make_video: Callable[..., Path],
    tmp_path: Path,
    batch_size: int,
    decoders: GuardedReader,
) -> None:
    model, processor = policy
    names = ["b.mp4", "none.mp4", "a.mp4", "c.mp4"]
    for name, frames in (("a.mp4", 8), ("b.mp4", 30), ("c.mp4", 40)):
        make_video(tmp_path / name, num_frames=frames)
    paths = [str(tmp_path / name) for name in names]
    options = {"sampling": Sampling(max_new_tokens=8), "batch_size": batch_size, "decoders": decoders}
    got = list(predict(model, processor, paths, **options))
    assert [prediction.path for prediction in got] == paths
    assert got[1].error is not None
    assert "none.mp4" not in got[1].text
    assert math.isnan(got[1].score)
    encoder = VideoEncoder(model, processor, processor.scoring)
    for prediction in (got[0], got[2], got[3]):
        assert prediction.error is None
        (video,) = encoder.encode([read_keyframes(prediction.path, 6).frames])
        ((response,),) = HFEngine(model, processor).generate(
            [encoder.request(video, "")], 1, Sampling(max_new_tokens=8)
        )
        assert prediction.text == processor.tokenizer.decode(response.token_ids, skip_special_tokens=True)
        np.testing.assert_equal(prediction.score, answers.score(prediction.text))


def test_predict_reads_the_score(policies: Policies, video: Path) -> None:
    model, processor = policies()
    reply = processor.tokenizer(answers.render("fair", 3.42))["input_ids"] + [
        processor.tokenizer.eos_token_id
    ]
    steps = iter(reply)

    def say(module: nn.Module, args: object, output: Tensor) -> Tensor:
        logits = torch.zeros_like(output)
        logits[..., next(steps)] = 1
        return logits

    model.lm_head.register_forward_hook(say)
    (prediction,) = predict(model, processor, [str(video)])
    assert prediction.text == "<think>fair</think><answer>3.42</answer>"
    assert prediction.score == 3.42


def test_features_of_two_scorers_have_names_of_their_own(policies: Policies) -> None:
    """An engine that is shared may keep features by these names."""
    model, processor = policies("none")
    clip = clip_of(np.zeros((12, 56, 56, 3), np.uint8), 12)
    keys = []
    for _ in range(2):
        answerer = Answerer(model, processor)
        requests = answerer._requests([Viewing((clip,), (None, "Why?")), Viewing((clip,))], Asking())
        keys += [request.cache_key for request in requests]
    assert len(set(keys)) == 4  # the questions about one clip share a name
