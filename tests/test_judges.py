"""Rewriting and judging by a real server, `vllm serve` with a tiny model of random weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from servers import Server, start
from transformers import Qwen2Config, Qwen2ForCausalLM

from vqathinker.chat import ChatClient, Question, parse_object
from vqathinker.checkpoints.tiny import PROMPT, build_tokenizer
from vqathinker.instructions import BUILDERS, Judging
from vqathinker.instructions.judging import SCHEMA
from vqathinker.journal import read_lines
from vqathinker.samples import Media, Sample
from vqathinker.seeds import rng_of

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

STATEMENTS = [
    Sample(f"clip#{number}", "set", (Media("clip.mp4"),), "description", "", f"Edges are soft, {number}.")
    for number in range(6)
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Qwen2 of two layers."""
    folder = tmp_path_factory.mktemp("writer")
    tokenizer = build_tokenizer(PROMPT)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    command = [sys.executable, "-m", "vqathinker.cli", "serve", "--judge", str(folder)]
    started = start([*command, "--dtype", "float32", "--enforce-eager", "--max-model-len", "4096"], folder)
    yield started
    started.kill()


def client(server: Server, folder: Path, **options: float) -> ChatClient:
    return ChatClient("judge", url=f"{server.url}/v1", journal=folder, **{"max_tokens": 1500, **options})  # type: ignore[arg-type]


def test_structured_output_keeps_to_the_schema(server: Server, tmp_path: Path) -> None:
    asked = client(server, tmp_path, temperature=1.0)
    for number in range(4):
        said = asked.ask_json(Question("Judge it.", schema=SCHEMA, round=number))
        assert set(said) == {"score", "correction", "reason"}
        assert said["score"] in {0, 1, 2}
    assert len(read_lines(tmp_path / "answers-0.jsonl")) == 4


def test_judges_vote_and_nothing_is_asked_twice(server: Server, tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        asked = client(server, tmp_path, temperature=1.0)
        judging = Judging({"writer": asked}, lambda media: (), self_judge=asked)
        results.append([judging(sample) for sample in STATEMENTS])
        asked.close()
    assert results[0] == results[1]
    assert asked.counts["asked"] == 0
    for built in results[0]:
        assert len(built.samples) + len(built.rejections) == 1
        assert not any(
            rejection.reason == "a judge's answer cannot be read" for rejection in built.rejections
        )


def test_a_depiction_is_rewritten_or_its_rejection_counted(server: Server, tmp_path: Path) -> None:
    asked = client(server, tmp_path, temperature=1.0)
    sample = Sample("clip", "set", (Media("clip.mp4"),), "medium", columns={"depiction": "It is dark."})
    built = BUILDERS["understanding"](model=asked)(sample, rng_of(0, "clip"))
    assert asked.counts["asked"] == 3
    assert built.samples or built.rejections
    cut = 0  # answers that the length has cut
    for entry in read_lines(tmp_path / "answers-0.jsonl"):
        try:
            assert "questions" in parse_object(entry["answer"])
        except ValueError:
            cut += 1
    reasons = [rejection.reason for rejection in built.rejections]
    assert reasons.count("the model's answer has another form") == cut


def test_a_rewording_that_changes_a_rating_is_not_taken(server: Server, tmp_path: Path) -> None:
    asked = client(server, tmp_path, max_tokens=64)
    columns = {"dimensions": {"sharpness": 0.1, "colour": 0.9}}
    sample = Sample("clip", "set", (Media("clip.mp4"),), "medium", target=2.0, columns=columns)
    built = BUILDERS["chain"](model=asked)(sample, rng_of(0, "clip"))
    assert built.samples[0].columns["mode"] == "template"
    assert [rejection.reason for rejection in built.rejections] == [
        "rewording changed a rating: the template stays"
    ]
