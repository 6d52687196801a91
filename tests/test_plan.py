"""The plan's arithmetic against what real modules, optimisers and caches hold and compute."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import conftest
import pytest
import torch
import trl.trainer.utils
from conftest import in_soak
from peft import get_peft_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from trl import ModelConfig

import rewards
from vqathinker.checkpoints.assemble import load_adapted, load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.data.dataset import load_labels
from vqathinker.model.attention import BRANCH_ATTENTION
from vqathinker.model.slowfast import SlowFast
from vqathinker.planning import activations, remedies
from vqathinker.planning import recipe as planning
from vqathinker.planning import run as plan
from vqathinker.planning import time as cost
from vqathinker.planning.checkpoint import Checkpoint, read_checkpoint
from vqathinker.planning.hardware import GPU, GPUS, MODELS, find_gpu
from vqathinker.planning.measure import measure, num_bytes
from vqathinker.planning.run import Run
from vqathinker.planning.sizes import SLOWFAST_BYTES, ModelSizes, Precision, count, is_counted
from vqathinker.rollout.encoder import FRAMES_PER_CALL
from vqathinker.training import TrainingConfig, VQAThinkerTrainer
from vqathinker.training.grpo.adapter import Updating
from vqathinker.training.grpo.rows import VideoInputs
from vqathinker.training.setup import lora

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "grpo_lsvq.yaml"
ACCELERATE = ROOT / "recipes" / "accelerate"
GROUP, LENGTH = 4, 64
SMALL_TILE = 512  # columns of the logits, so that the layers decide the peak as they do at real widths
# hub pages of OpenGVLab/InternVL3-*, in 10⁹ parameters
PUBLISHED = {"1B": 0.94, "2B": 2.09, "8B": 7.94, "14B": 15.1, "38B": 38.4, "78B": 78.4}
PRECISIONS = {
    "fp32": (torch.float32, False),
    "bf16": (torch.bfloat16, True),
    "fp32 weights, bf16 products": (torch.float32, True),
}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        output = func(*args, **(kwargs or {}))
        known = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage(), known)
        return output

    def _add(self, storage: torch.UntypedStorage, known: set[int]) -> None:
        key = storage._cdata
        if key not in known and key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Collects the storages kept for the backward pass, those of weights left out."""

    def __init__(self, model: nn.Module) -> None:
        self.left_out = {x.untyped_storage()._cdata for x in [*model.parameters(), *model.buffers()]}
        self.storages: dict[int, torch.UntypedStorage] = {}
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.left_out:
            self.storages[storage._cdata] = storage
        return tensor

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.total = sum(storage.nbytes() for storage in self.storages.values())
        self.storages.clear()  # the graph holds this object


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of six layers of 512 whose prompt has about 420 tokens."""
    folder = tmp_path_factory.mktemp("middle") / "checkpoint"
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2}
    text = {"hidden_size": 512, "num_hidden_layers": 6, "intermediate_size": 2048, **heads}
    vision = {
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    }
    build_tiny(folder, frame_size=224, text=text, vision=vision)
    return folder


class Update:
    """One micro-batch of a real trainer, and the plan's run for it."""

    def __init__(self, trainer: VQAThinkerTrainer, checkpoint: Checkpoint, run: Run) -> None:
        self.trainer, self.run = trainer, run
        self.model: nn.Module = trainer.model.train()
        frames = checkpoint.frames
        prompt = trainer.processor.prompt_ids(frames.num_frames, frames.tokens_per_frame)
        generator = torch.Generator().manual_seed(0)
        replies = torch.randint(7, 300, (GROUP, LENGTH), generator=generator)
        self.ids = torch.cat([torch.tensor(prompt).expand(GROUP, -1), replies], 1)
        shape: tuple[int, ...] = (frames.num_frames, 3, frames.size, frames.size)
        if not run.model.trains_vision:
            shape = (frames.num_frames, frames.tokens_per_frame, run.model.text.width)
        motion = torch.zeros(1, trainer.model.config.motion_dim)
        self.videos = [VideoInputs(torch.randn(shape, generator=generator), motion)] * GROUP
        if run.checkpointing:
            options = trainer.args.gradient_checkpointing_kwargs
            trainer.model.gradient_checkpointing_enable(options)

    def forward(self) -> Tensor:
        mask = torch.ones_like(self.ids)
        with self.trainer.at_work(Updating({"videos": self.videos})):
            return self.trainer._get_per_token_logps_and_entropies(self.model, self.ids, mask, LENGTH)[0]


@pytest.fixture
def make_update(
    middle: Path, labelled_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Update]]:
    monkeypatch.setattr(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", SMALL_TILE)
    monkeypatch.setattr(activations, "HEAD_COLUMNS", SMALL_TILE)
    monkeypatch.delitem(BRANCH_ATTENTION, "cpu")  # as on the GPUs that a plan is for
    rows = load_labels(labelled_videos / "train.csv", video_dir=labelled_videos, mos_range=(1, 5))

    def build(precision: str, *, packed: bool, checkpointing: bool, adapters: bool = False) -> Update:
        dtype, bf16 = PRECISIONS[precision]
        config = ModelConfig(dtype=str(dtype)[6:], use_peft=adapters, lora_r=4, lora_dropout=0.0)
        model, processor = load_policy(middle, dtype=dtype)
        args = TrainingConfig(
            output_dir=str(tmp_path / "out"), use_cpu=True, bf16=bf16, gradient_checkpointing=checkpointing,
            report_to="none", num_generations=GROUP, per_device_train_batch_size=GROUP, beta=0.0,
            packed=packed, gradient_accumulation_steps=1, max_steps=1,
        )  # fmt: skip
        reward = {"format": rewards.load("format")}
        trainer = VQAThinkerTrainer(
            model,
            args,
            processor=processor,
            rewards=reward,
            train_dataset=rows,
            peft_config=lora(config, model),
        )
        checkpoint = read_checkpoint(str(middle))
        sizes = measure(checkpoint, config, has_masters=False)
        run = Run(
            sizes, GPUS["h100"], num_gpus=1, zero=0, rows=GROUP, group=GROUP, longest=LENGTH, response=LENGTH,
            packed=packed, checkpointing=checkpointing, itemsize=2 if bf16 else 4, has_reference=False,
        )  # fmt: skip
        return Update(trainer, checkpoint, run)

    yield build
    gc.collect()  # a trainer lies in reference cycles


@pytest.mark.parametrize(
    ("precision", "packed"), [("fp32", False), *((precision, True) for precision in PRECISIONS)]
)
def test_activations_are_those_that_autograd_keeps(
    make_update: Callable[..., Update], precision: str, packed: bool
) -> None:
    update = make_update(precision, packed=packed, checkpointing=False)
    saved = SavedBytes(update.model)
    with saved:
        update.forward()
    predicted = activations.kept_bytes(update.run) + activations.autocast_bytes(update.run)
    assert predicted == pytest.approx(saved.total, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packed", "checkpointing"), [(True, False), (True, True), in_soak(False, True, name="rows")]
)
def test_the_peak_is_that_of_a_backward_pass(
    make_update: Callable[..., Update], packed: bool, checkpointing: bool
) -> None:
    update = make_update("fp32", packed=packed, checkpointing=checkpointing)
    update.forward().sum().backward()  # gradients are there, as after a first micro-batch
    gradients = num_bytes(p.grad for p in update.model.parameters() if p.grad is not None)
    with LiveBytes() as live:
        loss = update.forward().sum()
        kept = live.now
        loss.backward()
    parts = plan.memory(update.run).phases["update"]
    assert parts["gradients"] == gradients
    assert sum(parts.values()) == pytest.approx(gradients + live.peak, rel=0.05)
    if checkpointing:
        assert activations.kept_bytes(update.run) == pytest.approx(kept, rel=0.05)


def test_packing_and_checkpointing_save_what_they_save(make_update: Callable[..., Update]) -> None:
    update = make_update("fp32", packed=True, checkpointing=False)
    rowwise = replace(update.run, packed=False)
    assert update.run.num_tokens(LENGTH) == update.run.model.prompt_length - 1 + GROUP * LENGTH
    assert rowwise.num_tokens(LENGTH) == GROUP * (update.run.model.prompt_length - 1 + LENGTH)
    saved = SavedBytes(update.model)
    with saved:
        update.forward()
    assert activations.kept_bytes(rowwise) > 2 * saved.total
    assert activations.kept_bytes(replace(update.run, checkpointing=True)) < saved.total / 5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("use_peft", [False, True])
def test_weights_gradients_and_states_are_exact(tiny_checkpoint: Path, dtype: str, use_peft: bool) -> None:
    config = ModelConfig(dtype=dtype, use_peft=use_peft, lora_r=8)
    sizes = measure(read_checkpoint(str(tiny_checkpoint)), config, has_masters=False)
    model: Any = load_policy(tiny_checkpoint, dtype=getattr(torch, dtype))[0]
    slowfast = num_bytes(model.model.slowfast.buffers())
    if use_peft:
        from peft import get_peft_model

        model = get_peft_model(model, lora(ModelConfig(use_peft=True, lora_r=8), model))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    states = [x for state in optimiser.state.values() for name, x in state.items() if name != "step"]
    found = plan.memory(Run(sizes, GPUS["h100"], num_gpus=1, zero=0, rows=4, checkpointing=False))
    assert found.held["weights"] == num_bytes(model.parameters())
    assert found.held["Adam states"] == num_bytes(states)
    copies = 1 if use_peft else 2
    assert found.held["SlowFast, fp32"] == pytest.approx(slowfast * copies, rel=1e-4)  # counters of batches
    assert found.held.get("reference model", 0) == (0 if use_peft else num_bytes(model.parameters()))
    assert found.phases["update"]["gradients"] == num_bytes(p.grad for p in trained)


def test_the_cache_is_exact(policies: Callable[[str], tuple[Any, Any]], tiny_checkpoint: Path) -> None:
    model, _ = policies("slowfast")
    with torch.no_grad():
        cache = model(input_ids=torch.arange(7, 27).view(2, 10), use_cache=True).past_key_values
    held = num_bytes(x for layer in cache.layers for x in (layer.keys, layer.values))
    sizes = measure(read_checkpoint(str(tiny_checkpoint)), ModelConfig(dtype="float32"), has_masters=False)
    assert held == 2 * 10 * plan.key_value_bytes(sizes, 4)


@pytest.fixture(scope="module")
def sizes_8b() -> ModelSizes:
    return count(read_checkpoint("InternVL3-8B"), Precision(dtype="bfloat16"), has_masters=True)


def test_zero_splits_by_stage(sizes_8b: ModelSizes) -> None:
    """Bytes per parameter on each of N GPUs, as in ZeRO's paper (arXiv 1910.02054), figure 1."""
    n, count = 8, sizes_8b.num_weights
    assert sizes_8b.num_trained == count
    for stage, share in {1: 2 + 2 + 12 / n, 2: 2 + 14 / n, 3: 16 / n}.items():
        found = plan.memory(Run(sizes_8b, GPUS["h100"], num_gpus=n, zero=stage))
        names = ("weights", "fp32 master weights", "Adam states")
        total = sum(found.held[name] for name in names) + found.phases["update"]["gradients"]
        assert total == pytest.approx(share * count)


def test_reference_and_engine_count(sizes_8b: ModelSizes) -> None:
    run = Run(sizes_8b, GPUS["h100"])
    without = plan.memory(replace(run, has_reference=False))
    offloaded = plan.memory(replace(run, offloads_reference=True))
    assert offloaded.phase_bytes("update") == without.phase_bytes("update") + sizes_8b.slowfast_bytes
    assert offloaded.phases["log-probabilities"]["reference model"] == sizes_8b.weight_bytes
    assert plan.memory(run).held["reference model"] == sizes_8b.weight_bytes
    assert "reference model" not in without.held
    colocated = plan.memory(replace(run, engine="colocate", utilization=0.25))
    assert colocated.held[plan.VLLM] == GPUS["h100"].memory / 4
    asleep = plan.memory(replace(run, engine="colocate", utilization=0.25, sleeps=True))
    assert asleep.phase_bytes("rollout") == pytest.approx(colocated.phase_bytes("rollout"))
    given_back = colocated.phase_bytes("update") - asleep.phase_bytes("update")
    assert given_back == pytest.approx(GPUS["h100"].memory / 4)
    assert "key-value cache of the longest responses" not in colocated.phases["rollout"]


@pytest.mark.parametrize("name", MODELS)
def test_published_sizes(name: str) -> None:
    sizes = count(read_checkpoint(name), Precision(dtype="bfloat16"), has_masters=True)
    projector = 2304 * 2 + (2304 + 1 + sizes.text.width + 1) * sizes.text.width  # of the motion feature
    published = PUBLISHED[name.removeprefix("InternVL3-")]
    assert (sizes.num_weights - projector) / 1e9 == pytest.approx(published, rel=0.005)


SMALL = [
    (name, dtype, has_masters, use_peft)
    for name in ("tiny", "fast", "none", "qwen3")
    for dtype, has_masters in (("bfloat16", True), ("bfloat16", False), ("auto", False))
    for use_peft in (False, True)
]
LARGE = [(name, "bfloat16", True, False) for name in MODELS]


@pytest.mark.parametrize(("name", "dtype", "has_masters", "use_peft"), [*SMALL, *LARGE])
def test_arithmetic_counts_what_the_classes_hold(
    name: str, dtype: str, has_masters: bool, use_peft: bool, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    if name == "qwen3":
        text = {"model_type": "qwen3", "vocab_size": 99, "num_hidden_layers": 2, "tie_word_embeddings": True}
        config = {"model_type": "internvl", "text_config": text, "dtype": "bfloat16", "downsample_ratio": 0.5}
        (tmp_path / "config.json").write_text(json.dumps(config))
        name = str(tmp_path)
    checkpoint = read_checkpoint(str(checkpoints.get("slowfast" if name == "tiny" else name, name)))
    told = {"dtype": dtype, "use_peft": use_peft, "lora_r": 8}
    assert is_counted(checkpoint, Precision(**told))
    found = count(checkpoint, Precision(**told), has_masters=has_masters)
    assert found == measure(checkpoint, ModelConfig(**told), has_masters=has_masters)


@pytest.mark.parametrize("targets", [None, ["q_proj", "v_proj"]])
def test_an_adapter_that_is_trained_on(
    tiny_checkpoint: Path, tmp_path: Path, targets: list[str] | None
) -> None:
    """Its own rank counts, and a copy of it as it was loaded."""
    model, processor = load_policy(tiny_checkpoint)
    own = lora(ModelConfig(use_peft=True, lora_r=8, lora_target_modules=targets), model)
    get_peft_model(model, own).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    checkpoint = read_checkpoint(str(tmp_path))
    assert checkpoint.is_counted
    found = measure(checkpoint, ModelConfig(dtype="float32", use_peft=True), has_masters=False)
    told = Precision(use_peft=True)
    assert is_counted(checkpoint, told) is (targets is None)
    if targets is None:
        assert count(checkpoint, told, has_masters=False) == found
    policy, _ = load_adapted(tmp_path, dtype=torch.float32)
    policy.add_adapter("ref", policy.peft_config["default"])
    weights = list(policy.parameters())
    assert found.num_weights == sum(weight.numel() for weight in weights)
    assert found.weight_bytes == num_bytes(weights)
    assert found.num_trained == sum(weight.numel() for weight in weights if weight.requires_grad)
    whole = count(checkpoint, Precision(), has_masters=False)
    assert whole == count(read_checkpoint(str(tiny_checkpoint)), Precision(), has_masters=False)


def test_what_arithmetic_does_not_know_is_measured(tiny_checkpoint: Path) -> None:
    checkpoint = read_checkpoint(str(tiny_checkpoint))
    for options in (
        Precision(use_peft=True, lora_target_modules=["q_proj", "v_proj"]),
        Precision(use_peft=True, lora_modules_to_save=["lm_head"]),
        Precision(use_peft=True, use_dora=True),
    ):
        assert not is_counted(checkpoint, options)
    assert FRAMES_PER_CALL == plan.FRAMES_PER_CALL
    for (depth, stem), size in SLOWFAST_BYTES.items():
        with torch.device("meta"):
            assert num_bytes(SlowFast(depth, stem).buffers()) == size


def counted(model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, int]:
    """FLOPs by operation."""
    with FlopCounterMode(display=False) as counter:
        output = model(*args, **kwargs)
        del output
    return {str(name): flops for name, flops in counter.get_flop_counts()["Global"].items()}


def test_flops_of_the_matrices(middle: Path) -> None:
    sizes = measure(read_checkpoint(str(middle)), ModelConfig(dtype="float32"), has_masters=False)
    model, _ = load_policy(middle, dtype=torch.float32)
    ids = torch.arange(7, 107)[None]
    with torch.no_grad():
        text = counted(model, input_ids=ids)
        vision = counted(model.model.frame_features, torch.randn(2, 3, 224, 224))
    matrices = 100 * (cost.text_flops(sizes) + cost.head_flops(sizes))
    assert sum(v for k, v in text.items() if "mm" in k) == pytest.approx(matrices, rel=0.01)
    positions = sizes.patches_per_frame
    attention = cost.attention_flops(sizes.vision, positions**2)
    found = sum(v for k, v in vision.items() if "attention" not in k and "bmm" not in k)
    assert found == pytest.approx(2 * (cost.vision_flops(sizes) - attention), rel=0.02)


def test_flops_of_attention(middle: Path) -> None:
    sizes = measure(read_checkpoint(str(middle)), ModelConfig(dtype="float32"), has_masters=False)
    model, _ = load_policy(middle, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        found = counted(model, input_ids=torch.arange(7, 107)[None])
    # eager attention computes all pairs; the rest are the rotary angles
    assert found["aten.bmm"] == pytest.approx(cost.attention_flops(sizes.text, 100**2), rel=1e-3)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("adapters", [False, True])
def test_flops_of_an_update(
    make_update: Callable[..., Update], checkpointing: bool, *, adapters: bool
) -> None:
    """Attention and SlowFast left out: the matrices are what the phases differ in."""
    update = make_update("fp32", packed=True, checkpointing=checkpointing, adapters=adapters)
    with FlopCounterMode(display=False) as counter:
        update.forward().sum().backward()
    operations = counter.get_flop_counts()["Global"]
    found = sum(v for k, v in operations.items() if "mm" in str(k) and "bmm" not in str(k))
    model, run = update.run.model, update.run
    scale = {"text": run.num_tokens(LENGTH) * cost.text_flops(model)}
    # on a CPU the fused head projects every position, not the labelled ones alone
    scale["head"] = run.num_tokens(LENGTH) * cost.head_flops(model)
    frames = 0 if adapters else run.num_prompts * model.num_frames
    attention = cost.attention_flops(model.vision, model.patches_per_frame**2)
    scale["vision"] = frames * (cost.vision_flops(model) - attention)
    frozen = int(adapters)  # a pass less: no gradient for the weights
    passes, head_passes = (4 if checkpointing else 3) - frozen, 4 - frozen
    text, head, vision = cost.forward_flops(run)
    vision = 0 if adapters else vision  # the rollout's features
    left_out = passes * (text + vision - scale["text"] - scale["vision"])
    left_out += head_passes * (head - scale["head"])
    assert cost.update_flops(run) - left_out == pytest.approx(found, rel=0.03)


@pytest.mark.parametrize(
    ("rows", "group", "parts"), [(3, 4, 4), (5, 4, 4), (2, 4, 2), (4, 4, 2), (8, 4, 1), (6, 4, 2), (1, 4, 4)]
)
def test_micro_batches_that_split_groups(sizes_8b: ModelSizes, rows: int, group: int, parts: int) -> None:
    run = Run(sizes_8b, GPUS["h100"], rows=rows, group=group, generation_parts=parts)
    groups = [row // group for row in range(rows * parts)]
    touched = [len(set(groups[i * rows : (i + 1) * rows])) for i in range(parts)]
    assert run.num_prompts == max(touched)
    prompt, response = sizes_8b.prompt_length - 1, run.response
    pairs = run.num_prompts * prompt**2 / 2 + rows * response * (prompt + response)  # no branch is lost
    in_linear = run.num_tokens(response) * cost.text_flops(sizes_8b)
    text, _, _ = cost.forward_flops(run)
    assert text - in_linear == pytest.approx(cost.attention_flops(sizes_8b.text, pairs))
    group_alone = replace(run, rows=group, generation_parts=1)
    scored = rows * parts // group * sum(cost.forward_flops(group_alone))  # groups are whole again
    assert cost.scoring_flops(run) == pytest.approx(scored)
    held = plan.memory(run).phases["log-probabilities"]["working memory"]
    assert held == plan.memory(group_alone).phases["log-probabilities"]["working memory"] * -(-rows // group)
    frozen = replace(run, model=replace(sizes_8b, trains_tower=False, trains_vision=False))
    text, head, _ = cost.forward_flops(group_alone)
    assert cost.scoring_flops(frozen) == pytest.approx(rows * parts // group * (text + head))
    branches = cost.visible_pairs(0, 7, rows)
    assert run.num_prompts * cost.visible_pairs(0, 7, rows / run.num_prompts) == pytest.approx(branches)


def test_pairs_of_a_packed_group() -> None:
    prompt, response, branches = 40, 7, 3
    seen = sum(i + 0.5 for i in range(prompt))
    seen += sum(prompt + response for _ in range(branches * response))
    assert cost.visible_pairs(prompt, response, branches) == pytest.approx(seen)


def test_decoding_is_bound_by_the_memory(sizes_8b: ModelSizes) -> None:
    run = Run(sizes_8b, GPUS["h100"], response=100)
    assumed = cost.Assumptions(mfu=0.5, bandwidth_use=1.0)
    slowest = 100 * 2 * sizes_8b.num_language / 3350e9  # the weights once per token
    seconds = cost.decode(run, assumed).seconds
    assert slowest < seconds < 1.2 * slowest
    twice = replace(run, rows=8)
    assert cost.decode(twice, assumed).seconds < 1.2 * seconds


def test_schedule_is_that_of_the_paper(sizes_8b: ModelSizes) -> None:
    run = Run(sizes_8b, GPUS["h100"])
    parts = {"all": cost.Phase(0, 10.0)}
    found = cost.schedule(run, parts, num_videos=28056, epochs=3, max_steps=-1)
    assert (found.step_seconds, found.num_steps) == (10.0, round(28056 * 3 / 16))
    assert found.videos_per_hour == 16 * 360
    assert cost.schedule(run, parts, num_videos=28056, epochs=3, max_steps=7).num_steps == 7


call = partial(conftest.call, "plan", columns=120)


def test_settings_come_from_the_recipe() -> None:
    zero2 = planning.read_launch(ACCELERATE / "zero2.yaml")
    options = ["--packed", "false", "--use_vllm", "true", "--num_generations", "2", "--bf16", "false"]
    run = planning.plan("InternVL3-1B", RECIPE, options, gpu=GPUS["l40s"], launch=zero2, response=99).run
    assert (run.num_gpus, run.zero, run.rows, run.accumulation, run.generation_parts) == (8, 2, 4, 2, 2)
    assert (run.group, run.longest, run.response, run.has_twins, run.has_reference) == (
        2,
        2048,
        99,
        True,
        True,
    )
    assert (run.packed, run.checkpointing, run.engine, run.utilization) == (False, True, "colocate", 0.3)
    assert not run.recomputes_old


@pytest.mark.parametrize(
    ("options", "has_twins"),
    [
        (["--rewards", "format", "ranking"], False),
        (["--rewards", "format", "temporal"], True),
        (["--rewards", "format", "temporal", "--perturbations", "none"], False),
        (["--rewards", f"{__name__}:compares"], True),
    ],
    ids=str,
)
def test_twins_are_counted_where_a_reward_asks_for_them(options: list[str], has_twins: bool) -> None:
    zero2 = planning.read_launch(ACCELERATE / "zero2.yaml")
    run = planning.plan("InternVL3-1B", RECIPE, options, gpu=GPUS["l40s"], launch=zero2, response=99).run
    assert run.has_twins == has_twins


def compares(completions: list[str], twin_text: list[str], **columns: Any) -> list[float]:
    return [float(text != twin) for text, twin in zip(completions, twin_text, strict=True)]


@pytest.mark.parametrize(
    ("file", "expected"),
    [("zero2", (8, 2)), ("zero3", (8, 3)), ("one_gpu", (1, 0)), ("fsdp2", None), ("cpu", None)],
)
def test_accelerate_configurations(file: str, expected: tuple[int, int] | None) -> None:
    path = ACCELERATE / f"{file}.yaml"
    if expected is None:
        with pytest.raises(ValueError, match=r"zero3\.yaml|nothing to plan"):
            planning.read_launch(path)
    else:
        launch = planning.read_launch(path)
        assert (launch.num_gpus, launch.zero) == expected


def test_the_prompt_is_the_checkpoints_own(tiny_checkpoint: Path) -> None:
    checkpoint = read_checkpoint(str(tiny_checkpoint))
    _, processor = load_policy(tiny_checkpoint)
    assert checkpoint.is_counted
    assert checkpoint.prompt_length == len(processor.prompt_ids(6, 4))
    assert not read_checkpoint("InternVL3-8B").is_counted


def test_the_command_shows_a_run_that_fits() -> None:
    result = call("--model", "InternVL3-8B", "--gpu", "h100", "--config", RECIPE)
    assert result.exit_code == 0, result.output
    assert "InternVL3-8B on 8 x H100 SXM, ZeRO-2" in result.stdout
    assert "no run on a GPU has verified" in " ".join(result.stdout.split())


ADVICE = re.compile(r"  [\d.]+ GiB: (.*)")


def advice(output: str) -> list[list[str]]:
    """The options of each line of advice, one list of words for each change."""
    lines = [match[1] for line in output.splitlines() if (match := ADVICE.fullmatch(line))]
    return [[re.sub(r" \(.*\)", "", label) for label in line.split(", ")] for line in lines]


@pytest.mark.parametrize(
    ("model", "gpu", "number", "options"),
    [
        ("InternVL3-8B", "a100-40", 8, []),
        ("InternVL3-8B", "RTX 3090", 8, []),
        ("InternVL3-2B", "24GiB", 1, ["--dtype", "float32"]),
        ("InternVL3-8B", "h100", 1, ["--use_vllm", "true"]),
    ],
)
def test_every_advice_fits_and_none_of_it_is_needless(
    model: str, gpu: str, number: int, options: list[str]
) -> None:
    arguments = ["--model", model, "--gpu", gpu, "--num-gpus", number, *options]
    result = call(*arguments)
    assert result.exit_code == 1, result.output
    lines = advice(result.stdout)
    assert lines
    assert len({tuple(line) for line in lines}) == len(lines)
    for line in lines:
        assert call(*arguments, *" ".join(line).split()).exit_code == 0, line
        for left_out in line:
            rest = " ".join(label for label in line if label != left_out).split()
            assert call(*arguments, *rest).exit_code == 1, (line, left_out)


@pytest.mark.parametrize("memory_gib", [40, 44, 48, 52])
def test_all_single_changes_that_suffice_are_told(memory_gib: int) -> None:
    """Against every change tried on its own; of smaller batches the largest is enough."""
    gpu, launch = GPU("some", memory_gib, 1, 1), planning.Launch(8, 2)
    planned = planning.plan("InternVL3-8B", RECIPE, [], gpu=gpu, launch=launch, response=99)
    alone = [change for change in remedies.changes(planned) if remedies.fits(change.apply(planned.run))]
    batches = [change.label for change in alone if change.subject == remedies.BATCH]
    expected = {change.label for change in alone} - set(batches[1:])
    assert {labels[0] for labels, _ in remedies.remedies(planned) if len(labels) == 1} == expected
    assert expected


def test_a_run_without_a_margin_is_tight(sizes_8b: ModelSizes) -> None:
    run = Run(sizes_8b, GPUS["h100"])
    peak = plan.memory(run).peak / 2**30
    for size, verdict in ((peak / 0.94, "fits"), (peak / 0.987, "tight"), (peak * 0.99, "does not fit")):
        assert remedies.verdict(replace(run, gpu=GPU("some", size, 1, 1))) == verdict
    arguments = ["--model", "InternVL3-8B", "--config", RECIPE, "--response-tokens", 99]
    result = call(*arguments, "--gpu", f"{peak * 1.01:.2f}GiB")
    assert result.exit_code == 1
    assert "Tight: " in result.stdout
    assert "Times need a GPU by name" in result.stdout
    assert call(*arguments, "--gpu", f"{peak * 1.06:.2f} GiB").exit_code == 0


@pytest.mark.parametrize(
    ("gpu", "key"),
    [
        ("RTX 3090", "rtx3090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("A100-40", "a100-40"),
        ("h100", "h100"),
    ],
)
def test_gpus_by_the_names_that_people_use(gpu: str, key: str) -> None:
    assert find_gpu(gpu) == GPUS[key]


def test_sixteen_bit_training_without_masters_is_warned_of() -> None:
    arguments = ["--model", "InternVL3-1B", "--gpu", "h100", "--num-gpus", 1]
    warning = "without fp32 master weights"
    assert warning in call(*arguments).stdout
    assert warning not in call(*arguments, "--dtype", "float32").stdout
    assert warning not in call(*arguments, "--zero", 2).stdout
    adapted = call(*arguments, "--use_peft", "true").stdout
    assert warning not in adapted
    # which is trained whole
    assert "The adapters are trained in fp32, the motion projector in 16 bits" in adapted


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--gpu", "RTX 3090"], 1), (["--gpu", "RTX 3091"], 2), (["--gpu", "h200"], 0)]
)
def test_a_plan_takes_no_torch_and_no_checkout(arguments: list[str], status: int, tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from vqathinker.cli import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, "plan", "--model", "InternVL3-8B", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr


def test_nothing_makes_it_fit() -> None:
    result = call("--model", "InternVL3-78B", "--gpu", "rtx4090", "--num-gpus", 1, "--config", RECIPE)
    assert result.exit_code == 1
    assert "No setting makes it fit" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model", "InternVL3-8B", "--gpu", "h1000"],
            "unknown GPU 'h1000', choose one of rtx3090, rtx4090",
        ),
        (["--model", "nowhere", "--gpu", "h100"], "nowhere: neither a checkpoint folder, nor a config.json"),
        (["--model", "InternVL3-8B", "--gpu", "h100", "--mfu", "40"], "--mfu 40.0: expected a share"),
        (["--model", "InternVL3-8B", "--gpu", "h100", "--optim", "adafactor"], "optim=adafactor"),
        (["--model", "InternVL3-8B", "--gpu", "h100", "--betaa", "1"], "did you mean --beta?"),
        (["--model", "InternVL3-8B", "--gpu", "h100", "--config_file", "missing.yaml"], "missing.yaml"),
    ],
)
def test_user_errors_are_one_line(arguments: list[str], message: str) -> None:
    result = call(*arguments, "--config", RECIPE)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_another_models_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(ValueError, match=re.escape("describes a 'qwen2' model; give an InternVL")):
        read_checkpoint(str(tmp_path))
