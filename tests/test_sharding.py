"""Sharded weights on two CPU processes.

FSDP2: rollouts, gradients and synchronised weights are those of the whole model. Accelerate starts it on
accelerators only, so the trainer itself is not run under it here. ZeRO-3: a checkpoint is loaded as stored.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import run_in_two_processes

PROGRAM = """
import sys
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import torch
from peft import LoraConfig, get_peft_model
from torch.distributed import destroy_process_group, get_rank
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from trl.generation.vllm_generation import VLLMGeneration

from vqathinker.checkpoints.adapters import merged_weights
from vqathinker.checkpoints.assemble import load_policy
from vqathinker.rollout import HFEngine, Sampling, VideoEncoder
from vqathinker.training.sharding import whole_tensor, whole_weights


def rollout(model, processor, videos):
    with whole_weights(model, reshards=True), torch.no_grad():
        videos = videos[: 2 + get_rank()]  # the processes do not keep in step
        encoder = VideoEncoder(model, processor, processor.training)
        encoded = encoder.encode(videos)
        requests = [encoder.request(video, str(i)) for i, video in enumerate(encoded)]
        return requests, HFEngine(model, processor).generate(requests, 1, Sampling(max_new_tokens=6))


def update(model, request, ids):
    labels = torch.tensor([[*request.prompt_ids, *ids]])
    pixels = torch.linspace(-1, 1, 6 * 3 * 56 * 56).view(6, 3, 56, 56)
    motion = model.model.motion_features(pixels[None])
    model.train()
    model(input_ids=labels, pixel_values=pixels, motion_features=motion, labels=labels).loss.backward()


mesh = init_device_mesh("cpu", (2,))
model, processor = load_policy(sys.argv[1], dtype=torch.float32)
generator = torch.Generator().manual_seed(0)
noise = torch.randint(0, 255, (3, 6, 60, 60, 3), dtype=torch.uint8, generator=generator)
videos = list(noise.numpy())
requests, expected = rollout(model.eval(), processor, videos)
weights = {name: value.detach().clone() for name, value in model.named_parameters()}
update(model, requests[0], expected[0][0].token_ids)
gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
model.zero_grad()
layers = [*model.model.language_model.layers, *model.model.vision_tower.encoder.layer]
for part in [*layers, model]:
    fully_shard(part, mesh=mesh)

for _ in range(2):  # before and after an update
    asked, found = rollout(model.eval(), processor, videos)
    for one, other in zip(requests, asked, strict=True):
        torch.testing.assert_close(one.embeds, other.embeds)
    for (one,), (other,) in zip(expected, found, strict=True):
        assert one.token_ids == other.token_ids
        torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs))
    assert all(hasattr(value, "full_tensor") for value in model.parameters())  # sharded again
    model.zero_grad()
    update(model, requests[0], expected[0][0].token_ids)
    sharded = {name: p.grad.full_tensor() for name, p in model.named_parameters() if p.grad is not None}
    torch.testing.assert_close(sharded, gradients, atol=1e-5, rtol=1e-4)

place = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"))
place._fix_param_name_to_vllm = partial(VLLMGeneration._fix_param_name_to_vllm, place)
torch.testing.assert_close(dict(VLLMGeneration._iter_fsdp2_params(place, model)), weights)


@contextmanager
def gathered(tensors):
    yield [whole_tensor(tensor, "cpu") for tensor in tensors]


model, _ = load_policy(sys.argv[1], dtype=torch.bfloat16)
torch.manual_seed(0)
options = {"target_modules": ["q_proj"], "modules_to_save": ["motion_projector"]}
adapted = get_peft_model(model, LoraConfig(r=2, init_lora_weights=False, **options))
weights = {name: value.clone() for name, value in merged_weights(adapted)}
untouched = dict(load_policy(sys.argv[1], dtype=torch.bfloat16)[0].named_parameters())
assert any(not torch.equal(value, weights[name]) for name, value in untouched.items())
for part in [*model.model.language_model.layers, adapted]:
    fully_shard(part, mesh=mesh)
assert all(hasattr(value, "full_tensor") for value in adapted.parameters())
torch.testing.assert_close(dict(merged_weights(adapted, gathered)), weights, rtol=0, atol=0)
destroy_process_group()
"""


@pytest.mark.slow
def test_rollouts_gradients_and_weights(tiny_checkpoint: Path, tmp_path: Path) -> None:
    run_in_two_processes(PROGRAM, tmp_path, str(tiny_checkpoint))


LOADING = """
import sys

import deepspeed
import torch
from safetensors.torch import load_file
from torch.distributed import destroy_process_group
from transformers import AutoModelForCausalLM
from transformers.integrations import HfDeepSpeedConfig

from vqathinker.checkpoints.assemble import load_policy

deepspeed.init_distributed("gloo")
zero3 = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 1})
stored = load_file(sys.argv[1] + "/model.safetensors")
policy, _ = load_policy(sys.argv[1], dtype=torch.float32)
reference = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)  # as TRL loads it
for model in (policy, reference):
    assert not model.config.tie_word_embeddings
    for name in ("lm_head.weight", "model.language_model.embed_tokens.weight"):
        weight = model.get_parameter(name)
        assert not weight.numel(), "not sharded"
        with deepspeed.zero.GatheredParameters([weight]):
            assert torch.equal(weight, stored[name]), name
destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.vllm  # which DeepSpeed is installed with
def test_zero3_keeps_the_head(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that calls the head tied, as transformers does by default where it says nothing."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "policy"))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": True}))
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    run_in_two_processes(LOADING, tmp_path, str(folder))
