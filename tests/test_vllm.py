"""Every rollout engine against the policy itself: the same tokens, the same log-probabilities."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from conftest import SOAK
from servers import Server, start

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.media.video import read_keyframes
from vqathinker.rollout import HFEngine, Response, RolloutRequest, Sampling, VideoEncoder
from vqathinker.rollout.vllm import CPU_BLOCK, VLLMEngine
from vqathinker.rollout.vllm_server import RolloutServerError, ServerEngine

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]  # vLLM's own imports warn

NUM_PROMPTS = 50
GREEDY = Sampling(max_new_tokens=12)
MAX_LENGTH = 160


@pytest.fixture(scope="module")
def policy(tiny_checkpoint: Path) -> tuple[Any, Any]:
    model, processor = load_policy(tiny_checkpoint, dtype=torch.float32)
    return model.eval(), processor


def start_server(checkpoint: Path, folder: Path) -> Server:
    """Start a server for rollouts that answers people too."""
    command = [str(Path(sys.executable).with_name("vqathinker")), "serve", str(checkpoint), "--rollouts"]
    command += ["--dtype", "float32", "--max-model-len", str(MAX_LENGTH)]
    command += ["--limit-mm-per-prompt", '{"image": 0, "video": 1}', "--gpu-memory-utilization", "0.3"]
    if not SOAK:  # the embedded engine is compiled in every run
        command += ["--enforce-eager"]
    return start([*command, "--served-model-name", "tiny"], folder)


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start_server(tiny_checkpoint, tmp_path_factory.mktemp("server"))
    yield started
    started.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_other_machines_do_not_reach_it(server: Server) -> None:
    port = f"{int(server.url.rpartition(':')[2]):04X}"
    tables = (Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
    lines = [line.split() for table in tables for line in table.splitlines()]
    addresses = [line[1].split(":") for line in lines if line[3] == "0A"]  # those that listen
    assert [address for address, at in addresses if at == port] == ["0100007F"]  # 127.0.0.1


Update = Callable[[Any], None]
Engine = tuple[Any, Update]


@pytest.fixture(scope="module", params=["hf", "colocated", "compiled", "server"])
def engine(
    request: pytest.FixtureRequest,
    tiny_checkpoint: Path,
    policy: tuple[Any, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Engine:
    """An engine, and what brings it up to date with the policy."""
    model, processor = policy
    if request.param == "hf":
        return HFEngine(model, processor), lambda weights: None
    if request.param in ("colocated", "compiled"):
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
        eager = request.param == "colocated"
        made: Any = VLLMEngine(
            tiny_checkpoint, processor, max_length=MAX_LENGTH, dtype="float32", enforce_eager=eager
        )
    else:
        url = request.getfixturevalue("server").url
        made = ServerEngine(url, model.config, processor, weights_folder=tmp_path_factory.mktemp("weights"))
    made.synchronise(model.named_parameters())
    return made, made.synchronise


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


def test_greedy_equals_hugging_face_before_and_after_updates(policy: tuple[Any, Any], engine: Engine) -> None:
    model, processor = policy
    reference = HFEngine(model, processor)
    generator = torch.Generator().manual_seed(0)
    before = None
    for step in range(4):
        asked = requests(policy, step, NUM_PROMPTS)
        found = reference.generate(asked, 1, GREEDY)
        assert_same(engine[0].generate(asked, 1, GREEDY), found)
        assert found != before
        before = found
        with torch.no_grad():  # vision, motion and language weights
            for weight in model.parameters():
                weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
        engine[1](model.named_parameters())


def test_an_engine_sleeps_between_generations(
    policy: tuple[Any, Any], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU cannot sleep, so what would be asked of vLLM is recorded."""
    made: Any = engine[0]
    if not isinstance(made, VLLMEngine):
        pytest.skip("has no sleep")
    asked: list[str] = []
    monkeypatch.setattr(made.llm, "sleep", lambda level: asked.append(f"sleep {level}"))
    monkeypatch.setattr(made.llm, "wake_up", lambda: asked.append("wake"))
    monkeypatch.setattr(made, "sleeps", True)
    made.generate(requests(policy, 90), 1, GREEDY)
    made.synchronise(policy[0].named_parameters())
    made.generate(requests(policy, 91), 1, GREEDY)
    made.generate(requests(policy, 92), 1, GREEDY)
    assert asked == ["sleep 1", "wake", "sleep 1", "wake", "sleep 1"]
    made._wake()


def test_a_device_without_sleep(policy: tuple[Any, Any], tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"[Ss]leep mode"):
        VLLMEngine(tiny_checkpoint, policy[1], max_length=MAX_LENGTH, dtype="float32", sleeps=True)


def test_samples_differ_and_their_logprobs_are_those_of_training(
    policy: tuple[Any, Any], engine: Engine
) -> None:
    engine[1](policy[0].named_parameters())
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=20, max_new_tokens=10)
    asked = requests(policy, 100)
    for request, group in zip(asked, engine[0].generate(asked, 4, sampling), strict=True):
        assert len({tuple(response.token_ids) for response in group}) == 4
        for response in group:
            expected = expected_logprobs(policy, request, response, 0.7)
            np.testing.assert_allclose(response.logprobs, expected, atol=1e-3)


def test_a_prompt_is_computed_once_for_all_its_responses(
    policy: tuple[Any, Any], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the next video does not fit beside those of the same step."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    length, num_responses = 100, 4
    engine = VLLMEngine(
        tiny_checkpoint,
        policy[1],
        max_length=MAX_LENGTH,
        dtype="float32",
        max_sequences=16,
        max_num_batched_tokens=length + 60,  # vLLM's room for videos: one and a half
    )
    scheduler = engine.llm.llm_engine.engine_core.engine_core.scheduler
    schedule, computed = scheduler.schedule, []

    def watched(*args: object) -> object:
        step = schedule(*args)
        computed.append(step.total_num_scheduled_tokens)
        return step

    monkeypatch.setattr(scheduler, "schedule", watched)
    ids = [9, 9, 9, 9, *[policy[1].placeholder_ids[0]] * length, 9, 9]
    width = policy[0].config.text_config.hidden_size
    asked = [RolloutRequest(ids, torch.full((length, width), 0.1 * i), f"{i}") for i in range(4)]
    engine.generate(asked, num_responses, Sampling(temperature=1.0, max_new_tokens=1))
    last_block = len(ids) % CPU_BLOCK  # what the other responses of a group cannot share
    assert sum(computed) == len(asked) * (len(ids) + (num_responses - 1) * last_block)


def test_suppressed_ids_are_never_drawn(policy: tuple[Any, Any], engine: Engine) -> None:
    hot = Sampling(temperature=50.0, max_new_tokens=40)
    drawn = {i for g in engine[0].generate(requests(policy, 200), 16, hot) for r in g for i in r.token_ids}
    assert len(drawn) > 100
    assert not drawn & set(policy[1].suppressed_ids)


def test_an_empty_response_is_its_end_alone(policy: tuple[Any, Any], engine: Engine) -> None:
    model, processor = policy
    head = model.lm_head.weight.detach().clone()
    try:
        with torch.no_grad():
            hidden = model(inputs_embeds=_embeds(policy), output_hidden_states=True).hidden_states[-1][0, -1]
            model.lm_head.weight[processor.tokenizer.eos_token_id] = 100 * hidden
        engine[1](model.named_parameters())
        (group,) = engine[0].generate(requests(policy, 300, 1), 2, GREEDY)
    finally:
        model.lm_head.weight.data.copy_(head)
        engine[1](model.named_parameters())
    assert [response.token_ids for response in group] == [[processor.tokenizer.eos_token_id]] * 2


def _embeds(policy: tuple[Any, Any]) -> torch.Tensor:
    (request,) = requests(policy, 0, 1)
    ids = torch.tensor([list(request.prompt_ids)])
    embeds = policy[0].get_input_embeddings()(ids).detach()
    embeds[torch.isin(ids, torch.tensor(policy[1].placeholder_ids))] = request.embeds
    return embeds


@pytest.mark.parametrize("limit", [1, 5])
def test_responses_are_cut(policy: tuple[Any, Any], engine: Engine, limit: int) -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=limit)
    for group in engine[0].generate(requests(policy, 400), 2, sampling):
        for response in group:
            assert len(response.token_ids) == len(response.logprobs) <= limit


def test_a_prompt_that_leaves_no_room(policy: tuple[Any, Any], engine: Engine) -> None:
    (request,) = requests(policy, 500, 1)
    long = RolloutRequest([*request.prompt_ids, *[9] * 4096], request.embeds, "long")
    with pytest.raises(ValueError, match=r"a response of 12 tokens do not fit into (160|4096)"):
        engine[0].generate([long], 1, GREEDY)


@pytest.mark.parametrize("engine", ["colocated", "server"], indirect=True)
def test_weights_under_foreign_names(policy: tuple[Any, Any], engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="no weights of a language model among"):
        engine[1]((f"module.{name}", w) for name, w in policy[0].named_parameters())


def test_a_prompt_without_a_video(policy: tuple[Any, Any], engine: Engine) -> None:
    model, processor = policy
    ids = processor.tokenizer("Rate the quality from 1 to 5.")["input_ids"]
    asked = [RolloutRequest(ids, torch.empty(0, model.config.text_config.hidden_size), "text")]
    engine[1](model.named_parameters())
    assert_same(engine[0].generate(asked, 1, GREEDY), HFEngine(model, processor).generate(asked, 1, GREEDY))


def test_a_diverged_policy(policy: tuple[Any, Any], engine: Engine) -> None:
    model, _ = policy
    head = model.lm_head.weight.detach().clone()

    def go_on() -> None:
        engine[1](model.named_parameters())
        engine[0].generate(asked, 1, GREEDY)

    asked = requests(policy, 600, 1)
    model.lm_head.weight.data.fill_(torch.nan)
    try:
        with pytest.raises(RuntimeError, match="diverged"):
            go_on()
    finally:
        model.lm_head.weight.data.copy_(head)
        engine[1](model.named_parameters())


def chat(server: Server, *content: dict[str, Any], **options: Any) -> httpx.Response:
    """Ask for one greedy answer."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": list(content)}], "temperature": 0}
    body |= {"max_tokens": 12, "return_token_ids": True, **options}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def as_content(path: Path) -> dict[str, Any]:
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{data}"}}


@pytest.mark.parametrize("question", [None, "Is it sharp?"])
def test_a_chat_about_a_video_file(
    server: Server, tiny_checkpoint: Path, video: Path, question: str | None, tmp_path: Path
) -> None:
    model, processor = load_policy(tiny_checkpoint, dtype=torch.float32)  # the server's own vision weights
    model.eval()
    url, config = server.url, model.config
    ServerEngine(url, config, processor, weights_folder=tmp_path).synchronise(model.named_parameters())
    text = [] if question is None else [{"type": "text", "text": question}]
    answer = chat(server, as_content(video), *text).json()
    setting = processor.scoring
    expected = processor.prompt_ids(setting.num_frames, setting.tokens_per_frame, question=question)
    assert answer["prompt_token_ids"] == expected
    encoder = VideoEncoder(model, processor, setting)
    (encoded,) = encoder.encode([read_keyframes(video, setting.num_frames).frames])
    request = encoder.request(encoded, "served", question)
    ((response,),) = HFEngine(model, processor).generate([request], 1, GREEDY)
    assert answer["choices"][0]["token_ids"] == response.token_ids


def test_the_openai_client(server: Server, video: Path) -> None:
    from openai import OpenAI

    with OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        said = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": [as_content(video)]}],
            max_tokens=12,
            temperature=0,
        )
    expected = chat(server, as_content(video)).json()["choices"][0]["message"]["content"]
    assert said.choices[0].message.content == expected


def test_what_a_chat_cannot_hold(server: Server, video: Path, broken_videos: dict[str, Path]) -> None:
    for fault, reason in (("text", "cannot be decoded"), ("audio", "no video stream")):
        answer = chat(server, as_content(broken_videos[fault]))
        assert answer.status_code == 400
        assert reason in answer.text
    assert chat(server, as_content(video), as_content(video)).status_code == 400


def test_a_server_of_another_model(server: Server, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model, processor = load_policy(checkpoints["none"])
    with pytest.raises(RolloutServerError, match=r"serves another model than the policy's: .*slowfast"):
        ServerEngine(server.url, model.config, processor, weights_folder=tmp_path)


def test_a_server_of_another_version(
    server: Server, policy: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqathinker.__version__", "0.0.9")
    with pytest.raises(RolloutServerError, match=r"this process .*0.0.9.* install the same versions"):
        ServerEngine(server.url, policy[0].config, policy[1], weights_folder=tmp_path)


def test_a_server_that_another_run_uses(server: Server, policy: tuple[Any, Any], tmp_path: Path) -> None:
    model, processor = policy
    first, second = (
        ServerEngine(server.url, model.config, processor, weights_folder=tmp_path) for _ in range(2)
    )
    first.synchronise(model.named_parameters())
    second.synchronise(model.named_parameters())
    with pytest.raises(RolloutServerError, match="has other weights than this run gave it"):
        first.generate(requests(policy, 700, 1), 1, GREEDY)


def test_a_frozen_server(server: Server, policy: tuple[Any, Any], tmp_path: Path) -> None:
    """It holds its connections and answers nothing."""
    model, processor = policy
    made = ServerEngine(server.url, model.config, processor, weights_folder=tmp_path)
    made.synchronise(model.named_parameters())
    os.killpg(server.process.pid, signal.SIGSTOP)
    start = time.monotonic()
    try:
        with pytest.raises(RolloutServerError, match="does not answer"):
            made.generate(requests(policy, 200), 1, GREEDY)
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    assert time.monotonic() - start < 60
    assert len(made.generate(requests(policy, 201), 1, GREEDY)) == 4


def test_no_server(policy: tuple[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(RolloutServerError, match="no rollout server answers at http://localhost:9"):
        ServerEngine(
            "http://localhost:9", policy[0].config, policy[1], weights_folder=tmp_path, start_within=2
        )


def train(server: Server, checkpoint: Path, videos: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    """Start eight steps of the recipe with a server's rollouts and no checkpoint on the way."""
    command = [sys.executable, "recipes/grpo_lsvq.py", "--model_name_or_path", str(checkpoint)]
    command += ["--train_labels", str(videos / "train.csv"), "--train_videos", str(videos)]
    command += ["--mos_low", "1", "--mos_high", "5", "--use_cpu", "true", "--bf16", "false"]
    command += ["--dtype", "float32", "--gradient_checkpointing", "false", "--report_to", "none"]
    command += ["--use_vllm", "true", "--vllm_mode", "server", "--vllm_server_base_url", server.url]
    command += ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1"]
    command += ["--max_completion_length", "8", "--logging_steps", "1", "--max_steps", "8"]
    command += ["--save_steps", "100", "--output_dir", str(folder / "out"), *more]
    streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], **streams)


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_run(
    tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    server = start_server(tiny_checkpoint, tmp_path)
    try:
        run = train(server, tiny_checkpoint, labelled_videos, tmp_path)
        assert run.stdout is not None
        steps = 0
        for line in run.stdout:
            steps += bool(re.match(r" *\d+/8 ", line))
            if steps == 2:
                break
        assert steps == 2
    finally:
        server.kill()
    output, _ = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "does not answer" in output
    assert "--resume_from_checkpoint true goes on" in output
    (kept,) = (tmp_path / "out").glob("checkpoint-*")
    step = int(kept.name.removeprefix("checkpoint-"))
    assert 2 <= step < 8
    server = start_server(tiny_checkpoint, tmp_path)
    try:
        more = ["--resume_from_checkpoint", "true"]
        resumed = train(server, tiny_checkpoint, labelled_videos, tmp_path, *more)
        output, _ = resumed.communicate(timeout=300)
    finally:
        server.kill()
    assert resumed.returncode == 0, output[-3000:]
    history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    steps_seen = [entry["step"] for entry in history if "reward" in entry]
    assert steps_seen == list(range(1, 9))
    assert max(entry["sampling/logp_gap_mean"] for entry in history if "reward" in entry) < 0.05
    assert not list((tmp_path / "out").glob("rollout_weights/*"))


@pytest.mark.slow
def test_an_internvl_3_5_with_settings_of_its_own(tmp_path: Path) -> None:
    """Its language model is a Qwen3; what its generation_config.json says of sampling does not count."""
    build_tiny(tmp_path, text={"model_type": "qwen3", "head_dim": 32})
    file = tmp_path / "generation_config.json"
    odd = {"do_sample": True, "temperature": 0.1, "top_k": 1, "repetition_penalty": 1.9, "min_p": 0.5}
    file.write_text(json.dumps(json.loads(file.read_text()) | odd))
    model, processor = load_policy(tmp_path, dtype=torch.float32)
    policy = (model.eval(), processor)
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    made = VLLMEngine(tmp_path, processor, max_length=MAX_LENGTH, dtype="float32")
    asked = requests(policy, 0)
    found = made.generate(asked, 1, GREEDY)
    assert_same(found, HFEngine(model, processor).generate(asked, 1, GREEDY))
    sampled = made.generate(asked, 1, Sampling(temperature=1.0, max_new_tokens=12))
    assert sampled != found
    for request, (response,) in zip(asked, sampled, strict=True):
        expected = expected_logprobs(policy, request, response, 1.0)
        torch.testing.assert_close(torch.tensor(response.logprobs), expected, rtol=0, atol=1e-3)
