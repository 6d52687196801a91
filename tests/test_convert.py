"""A checkpoint as VQAThinker's authors publish it gives the same logits once it is in our layout.

The oracle re-derives the published architecture in plain PyTorch from its description: an InternViT
with fused attention weights, pixel shuffle, two projectors, SlowFast; only the language model is
transformers' own.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import call, permissions
from pytorchvideo.models.slowfast import create_slowfast
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoTokenizer,
    InternVLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.convert import convert
from vqathinker.checkpoints.storage import check_free
from vqathinker.checkpoints.tiny import build_tokenizer
from vqathinker.prompts import Prompt

VISION: dict[str, Any] = {
    "model_type": "intern_vit_6b",
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "image_size": 448,
    "patch_size": 14,
    "num_channels": 3,
    "qkv_bias": True,
    "qk_normalization": False,
    "norm_type": "layer_norm",
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "drop_path_rate": 0.1,
    "initializer_factor": 1.0,
    "use_flash_attn": True,
}
TEXT: dict[str, Any] = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 8192,
    "max_window_layers": 70,
    "sliding_window": None,
    "use_sliding_window": False,
    "rope_theta": 1000000.0,
    "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "_attn_implementation_autoset": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
LANGUAGE_MODELS: dict[str, tuple[Any, Any]] = {
    "Qwen2ForCausalLM": (Qwen2Config, Qwen2ForCausalLM),
    "Qwen3ForCausalLM": (Qwen3Config, Qwen3ForCausalLM),
}
CHAT: dict[str, Any] = {
    "model_type": "internvl_chat",
    "architectures": ["InternVLChatModel"],
    "auto_map": {"AutoConfig": "configuration.Config", "AutoModel": "modeling.Model"},
    "select_layer": -1,
    "ps_version": "v2",
    "downsample_ratio": 0.5,
    "template": "internvl2_5",
    "force_image_size": 448,
    "use_llm_lora": 0,
    "use_backbone_lora": 0,
    "torch_dtype": "bfloat16",
}
SETTINGS = [
    (6, 448, 3, 6),
    (12, 560, 4, 4),
]  # frames, their side, frames per slow frame, repeats before the pools


class RMSNorm(nn.Module):
    """x / root mean square(x) · w."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.weight


def norm_of(config: dict[str, Any]) -> nn.Module:
    if config["norm_type"] == "rms_norm":
        return RMSNorm(config["hidden_size"], config["layer_norm_eps"])
    return nn.LayerNorm(config["hidden_size"], config["layer_norm_eps"])


class Attention(nn.Module):
    """Queries, keys and values from one matrix; they are normalised over all heads together, if at all."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, self.heads = config["hidden_size"], config["num_attention_heads"]
        self.qkv = nn.Linear(width, 3 * width, bias=config["qkv_bias"])
        self.proj = nn.Linear(width, width)
        if config["qk_normalization"]:
            self.q_norm, self.k_norm = (RMSNorm(width, config["layer_norm_eps"]) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        query, key, value = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (query, key, value))
        weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and MLP, each behind a norm and scaled before it is added."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.attn = Attention(config)
        self.norm1, self.norm2 = norm_of(config), norm_of(config)
        self.ls1, self.ls2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Linear(width, config["intermediate_size"]),
                "fc2": nn.Linear(config["intermediate_size"], width),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x)) * self.ls1
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))) * self.ls2


class Vision(nn.Module):
    """The tower: (F, 3, S, S) → (F, (S/14)², C), its learned grid of positions resized to the frames."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, self.side = config["hidden_size"], config["image_size"] // 14
        self.embeddings = nn.Module()
        self.embeddings.class_embedding = nn.Parameter(torch.zeros(1, 1, width))
        self.embeddings.position_embedding = nn.Parameter(torch.zeros(1, self.side**2 + 1, width))
        self.embeddings.patch_embedding = nn.Conv2d(3, width, 14, 14)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))

    def forward(self, frames: Tensor) -> Tensor:
        patches = self.embeddings.patch_embedding(frames)
        positions = self.embeddings.position_embedding
        grid = positions[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))
        grid = F.interpolate(grid, patches.shape[2:], mode="bicubic", align_corners=False)
        x = patches.flatten(2).transpose(1, 2) + grid.flatten(2).transpose(1, 2)
        first = self.embeddings.class_embedding + positions[:, :1]
        x = torch.cat([first.expand(len(x), -1, -1), x], dim=1)
        for layer in self.encoder.layers:
            x = layer(x)
        return x[:, 1:]


def projector(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))


class Released(nn.Module):
    """The published architecture; the state's names are those of its files."""

    def __init__(
        self, vision: dict[str, Any], text: dict[str, Any], *, motion: bool, depth: int = 18
    ) -> None:
        super().__init__()
        self.vision_model = Vision(vision)
        config, language_model = LANGUAGE_MODELS[text["architectures"][0]]
        self.language_model = language_model(config(**text, attn_implementation="sdpa"))
        self.mlp1 = projector(4 * vision["hidden_size"], text["hidden_size"])
        if motion:
            self.motion_mlp = projector(576, text["hidden_size"])
            self.slowfast_model = nn.Module()
            network = create_slowfast(model_depth=depth, stem_dim_outs=(16, 2))
            self.slowfast_model.feature_extraction = nn.Sequential(*network.blocks[:5])

    def frame_tokens(self, frames: Tensor) -> Tensor:
        """(F, (S/28)², d): the four patches of each 28-pixel square side by side, row by row of squares."""
        patches = self.vision_model(frames)
        side = int(patches.shape[1] ** 0.5)
        grid = patches.unflatten(1, (side // 2, 2, side // 2, 2))  # (F, row, y, column, x, C)
        return self.mlp1(grid.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2))

    def motion_token(self, frames: Tensor, stride: int, repeats: int) -> Tensor:
        """(1, d) from (T, 3, S, S): every `stride`-th frame is slow, pools see repeated features."""
        fast = frames.transpose(0, 1)[None]
        slow = fast[:, :, torch.linspace(0, len(frames) - 1, len(frames) // stride).long()]
        features = self.slowfast_model.feature_extraction([slow, fast])
        pooled = [
            F.avg_pool3d(x.repeat_interleave(repeats, dim=2), (length, 7, 7), stride=1).mean((2, 3, 4))
            for x, length in zip(features, (8, 32), strict=True)
        ]
        return self.motion_mlp(torch.cat(pooled, dim=1))

    def forward(self, ids: Tensor, context: int, frames: Tensor, motion: Tensor | None = None) -> Tensor:
        """Logits; the last context token takes the motion, those before it the frames."""
        embeds = self.language_model.get_input_embeddings()(ids).clone()
        places = (ids[0] == context).nonzero()[:, 0]
        tokens = self.frame_tokens(frames).flatten(0, 1)
        embeds[0, places] = tokens if motion is None else torch.cat([tokens, motion])
        return self.language_model(inputs_embeds=embeds).logits


def randomise(model: nn.Module, seed: int) -> None:
    """Weights of a size that lets every part matter to the logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(1 + noise.abs())
        elif tensor.ndim > 1 and "position" not in name and "class" not in name:
            gain = 3 if "blocks" in name or "slowfast" in name else 1
            tensor.copy_(noise * (gain / tensor[0].numel()) ** 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(noise * 0.2 + (1 if tensor.ndim == 1 and name.endswith("weight") else 0))


SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>", "<img>", "</img>", "<IMG_CONTEXT>",
]  # fmt: skip


def write_tokenizer(folder: Path) -> int:
    """Write a tokenizer in the files of the published ones, without `tokenizer.json`; returns its size."""
    model = json.loads(build_tokenizer(Prompt(), 360).backend_tokenizer.to_str())["model"]
    ordinary = [token for token in model["vocab"] if not (token.startswith("<") and token.endswith(">"))]
    special = {token: len(ordinary) + i for i, token in enumerate(SPECIAL)}
    files: dict[str, Any] = {
        "vocab.json": {token: i for i, token in enumerate(ordinary)},
        "added_tokens.json": special,
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "added_tokens_decoder": {
                str(i): {"content": token, "special": True, "normalized": False}
                for token, i in special.items()
            },
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "chat_template": "{{ 'another one' }}",
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(m) for m in model["merges"])]))
    return len(ordinary) + len(SPECIAL)


def save_shards(folder: Path, state: dict[str, Tensor], num_shards: int) -> None:
    """Write weights as transformers does, in shards with an index."""
    names = list(state)
    bounds = [len(names) * i // num_shards for i in range(num_shards + 1)]
    index = {}
    for number, (start, stop) in enumerate(pairwise(bounds), start=1):
        file = f"model-{number:05}-of-{num_shards:05}.safetensors"
        save_file({n: state[n].contiguous() for n in names[start:stop]}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(names[start:stop], file)
    content = {"metadata": {"total_size": 0}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def release(
    folder: Path,
    *,
    motion: bool = True,
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    num_shards: int = 3,
    seed: int = 0,
    **chat: Any,
) -> Released:
    """Write a checkpoint with random weights in the published layout; returns its model."""
    folder.mkdir(parents=True, exist_ok=True)
    size = write_tokenizer(folder) + 5  # a vocabulary padded beyond the tokenizer's
    config = {**CHAT, **chat}
    config["vision_config"] = {**VISION, **(vision or {})}
    config["llm_config"] = {**TEXT, "vocab_size": size, **(text or {})}
    (folder / "config.json").write_text(json.dumps(config))
    model = Released(config["vision_config"], config["llm_config"], motion=motion).eval()
    randomise(model, seed)
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in model.state_dict().items()}
    model.load_state_dict(state)
    if config["llm_config"]["tie_word_embeddings"]:
        del state["language_model.lm_head.weight"]
    save_shards(folder, state, num_shards)
    return model


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Released]:
    folder = tmp_path_factory.mktemp("released") / "VQAThinker"
    return folder, release(folder)


@pytest.fixture(scope="module")
def converted(released: tuple[Path, Released], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "policy"
    convert(str(released[0]), out)
    return out


QUESTION = (
    "You are doing the video quality assessment task. Here is the question: What is your overall rating on "
    "the quality of this video? The rating should be a float between 1 and 5, rounded to two decimal places, "
    "with 1 representing very poor quality and 5 representing excellent quality.First output the thinking "
    "process in <think> </think> tags and then output the final answer in <answer> </answer> tags."
)


def test_everybody_may_read_it(converted: Path) -> None:
    assert len(permissions(converted)) == 1


def released_text(num_frames: int, side: int) -> str:
    """The query of the published inference script, spelt out."""
    image = "<img>" + "<IMG_CONTEXT>" * (side // 28) ** 2 + "</img>"
    frames = "".join(f"Frame{i}: {image}" for i in range(1, num_frames + 1))
    return (
        "<|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的"
        "多模态大语言模型。<|im_end|>\n<|im_start|>user\n"
        f"Now you will receive a video:{frames}Motion Feature: <img><IMG_CONTEXT></img>{QUESTION}"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


@torch.no_grad()
@pytest.mark.parametrize(("num_frames", "side", "stride", "repeats"), SETTINGS)
def test_logits_of_the_released_layout(
    released: tuple[Path, Released], converted: Path, num_frames: int, side: int, stride: int, repeats: int
) -> None:
    folder, source = released
    tokenizer = AutoTokenizer.from_pretrained(folder)
    theirs = tokenizer(released_text(num_frames, side), return_tensors="pt")["input_ids"]
    context = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    frames = torch.randn(num_frames, 3, side, side, generator=torch.Generator().manual_seed(1))
    motion = source.motion_token(frames, stride, repeats)
    expected = source(theirs, context, frames, motion)

    model, processor = load_policy(converted)
    setting = {6: processor.training, 12: processor.scoring}[num_frames]
    assert (setting.num_frames, setting.size) == (num_frames, side)
    ids = torch.tensor([processor.prompt_ids(num_frames, setting.tokens_per_frame)])
    last = (theirs[0] == context).nonzero()[-1]
    assert (ids != theirs).nonzero().tolist() == [[0, int(last)]]
    logits = model.eval()(input_ids=ids, pixel_values=frames).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_frames_and_motion_matter(released: tuple[Path, Released]) -> None:
    """A wrong order of frames or motion would show in the logits that the test above compares."""
    _, source = released
    ids = torch.tensor([[3, 3, 3, 3, 3, 3, 3, 5]])
    frames = torch.randn(6, 3, 448, 448, generator=torch.Generator().manual_seed(1))
    tokens = source.frame_tokens(frames)[:, 0]
    motion = source.motion_token(frames, 3, 6)

    def logits(*tokens: Tensor) -> Tensor:
        embeds = source.language_model.get_input_embeddings()(ids).clone()
        embeds[0, :7] = torch.cat(tokens)
        return source.language_model(inputs_embeds=embeds).logits[0, -1]

    expected = logits(tokens, motion)
    reversed_motion = source.motion_token(frames.flip(0), 3, 6)
    for other in (logits(tokens.flip(0), motion), logits(tokens, reversed_motion)):
        assert (other - expected).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize(
    "sizes",
    [
        {"text": {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 40}},
        {"text": {"tie_word_embeddings": True}},
        {"text": {"architectures": ["Qwen3ForCausalLM"], "head_dim": 24}},
        {"vision": {"norm_type": "rms_norm", "qk_normalization": True, "qkv_bias": False}},
        {"vision": {"layer_norm_eps": 1e-3, "image_size": 224}},
        {"dtype": torch.bfloat16, "num_shards": 1},
    ],
    ids=["width", "tied", "Qwen3 (InternVL3.5)", "6B tower", "other epsilon", "bfloat16"],
)
def test_sizes_are_read_from_the_configuration(sizes: dict[str, Any], tmp_path: Path) -> None:
    source = release(tmp_path / "source", **sizes)
    convert(str(tmp_path / "source"), tmp_path / "out")
    model, processor = load_policy(tmp_path / "out")
    assert model.dtype == sizes.get("dtype", torch.float32)
    model = model.float().eval()
    frames = torch.randn(6, 3, 224, 224)
    ids = torch.tensor([processor.prompt_ids(6, 64)])
    image_id, motion_id = processor.placeholder_ids
    expected = source(
        ids.where(ids != motion_id, image_id), image_id, frames, source.motion_token(frames, 3, 6)
    )
    logits = model(input_ids=ids, pixel_values=frames).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


def test_nothing_is_rounded(tmp_path: Path) -> None:
    source = release(tmp_path / "source", dtype=torch.bfloat16)
    report = convert(str(tmp_path / "source"), tmp_path / "out")
    written: dict[str, Tensor] = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        written |= load_file(file)
    assert set(report.used) == set(source.state_dict())
    for name, tensor in source.state_dict().items():
        parts = [written.pop(new) for new in report.used[name]]
        assert torch.equal(torch.cat(parts) if len(parts) > 1 else parts[0], tensor.to(parts[0].dtype)), name
        stored = tensor.dtype if name.startswith("slowfast_model") else torch.bfloat16
        assert parts[0].dtype == stored, name
    assert not written


def test_the_report(converted: Path, released: tuple[Path, Released]) -> None:
    report = json.loads((converted / "conversion.json").read_text())
    assert (report["layout"], report["target"]) == ("internvl_chat", "vqathinker")
    assert set(report["used"]) == set(released[1].state_dict())
    assert report["used"]["vision_model.encoder.layers.1.attn.qkv.bias"] == [
        f"model.vision_tower.encoder.layer.1.attention.{part}_proj.bias" for part in "qkv"
    ]
    for kind in ("left_out", "added", "unused", "missing", "mismatched"):
        assert not report[kind]
    assert sorted(report["files"]) == sorted(path.name for path in converted.iterdir())


def test_responses_end_with_the_turn(converted: Path) -> None:
    model, processor = load_policy(converted)
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert processor.tokenizer.eos_token_id == model.generation_config.eos_token_id == end
    assert model.config.text_config.eos_token_id == end


def test_rotary_frequencies(converted: Path) -> None:
    model, _ = load_policy(converted)
    expected = 1e6 ** -(torch.arange(0, 12, 2) / 12)
    torch.testing.assert_close(model.model.language_model.rotary_emb.inv_freq, expected)


# --- the way back, and InternVL without motion


@torch.no_grad()
def test_back_to_internvl(released: tuple[Path, Released], converted: Path, tmp_path: Path) -> None:
    report = convert(str(converted), tmp_path / "hf", target="internvl-hf")
    assert {name.split(".")[1] for name in report.left_out} == {"slowfast", "motion_projector"}
    stock, info = InternVLForConditionalGeneration.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    context = AutoTokenizer.from_pretrained(tmp_path / "hf").convert_tokens_to_ids("<IMG_CONTEXT>")
    ids = torch.tensor([[7, *[context] * 512, 9, 11]])
    frames = torch.randn(2, 3, 448, 448)
    logits = stock.eval()(input_ids=ids, pixel_values=frames).logits
    torch.testing.assert_close(logits, released[1](ids, context, frames), rtol=0, atol=1e-4)

    # the names are those that transformers itself writes
    stock.save_pretrained(tmp_path / "again")
    stored: set[str] = set()
    for file in (tmp_path / "hf").glob("*.safetensors"):
        stored |= set(load_file(file))
    assert stored == set(load_file(tmp_path / "again" / "model.safetensors"))


@torch.no_grad()
@pytest.mark.parametrize("is_tied", [False, True])
def test_internvl_there_and_back(tmp_path: Path, is_tied: bool) -> None:
    """InternVL's own layout → Hugging Face → ours → Hugging Face: the same logits, then the same files."""
    source = release(tmp_path / "chat", motion=False, text={"tie_word_embeddings": is_tied})
    convert(str(tmp_path / "chat"), tmp_path / "hf", target="internvl-hf")
    convert(str(tmp_path / "hf"), tmp_path / "ours", motion="none")
    convert(str(tmp_path / "ours"), tmp_path / "back", target="internvl-hf")
    model, processor = load_policy(tmp_path / "ours")
    assert model.config.motion == "none"
    assert processor.prompt == Prompt().to_dict()
    image_id = processor.placeholder_ids[0]
    ids, frames = torch.tensor([processor.prompt_ids(2, 64)]), torch.randn(2, 3, 224, 224)
    logits = model.eval()(input_ids=ids, pixel_values=frames).logits
    torch.testing.assert_close(logits, source(ids, image_id, frames), rtol=0, atol=1e-4)
    names = {path.name for path in (tmp_path / "hf").iterdir()}
    assert names == {path.name for path in (tmp_path / "back").iterdir()}
    for name in names - {"conversion.json"}:
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("hf", "back"))
        assert first == second, name


@pytest.fixture(scope="module")
def slowfast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slowfast") / "SLOWFAST_8x8_R50.pyth"
    torch.save({"model_state": create_slowfast(model_depth=18, stem_dim_outs=(16, 2)).state_dict()}, path)
    return path


@pytest.mark.parametrize("layout", ["internvl_chat", "internvl"])
def test_slowfast_is_added(slowfast: Path, tmp_path: Path, layout: str) -> None:
    release(tmp_path / "source", motion=False, dtype=torch.bfloat16)
    if layout == "internvl":
        convert(str(tmp_path / "source"), tmp_path / "hf", target="internvl-hf")
    source = str(tmp_path / ("hf" if layout == "internvl" else "source"))
    report = convert(source, tmp_path / "out", slowfast=slowfast)
    model, processor = load_policy(tmp_path / "out")
    published = torch.load(slowfast, weights_only=True)["model_state"]
    for name, tensor in model.model.slowfast.state_dict().items():
        assert torch.equal(tensor, published[name]), name
    assert 0.01 < model.model.motion_projector.linear_1.weight.std() < 0.03
    assert not model.model.motion_projector.linear_1.bias.any()
    names = {f"model.{name}" for name in model.model.state_dict() if name.startswith(("slowfast", "motion"))}
    assert set(report.added) == names
    assert processor.motion == "slowfast"
    convert(source, tmp_path / "again", slowfast=slowfast)
    other, _ = load_policy(tmp_path / "again")
    assert torch.equal(
        other.model.motion_projector.linear_2.weight, model.model.motion_projector.linear_2.weight
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vision_feature_layer", -2),
        ("vision_feature_select_strategy", "full"),
        ("downsample_ratio", 0.25),
        ("image_token_id", 7),
    ],
)
def test_other_hugging_face_models_are_refused(tmp_path: Path, name: str, value: object) -> None:
    release(tmp_path / "chat", motion=False)
    convert(str(tmp_path / "chat"), tmp_path / "hf", target="internvl-hf")
    edit_config(tmp_path / "hf", **{name: value})
    refused(tmp_path / "hf", tmp_path / "out", f"{name} is {value!r}", motion="none")


# --- refusals


def refused(source: Path, out: Path, message: str, **options: Any) -> None:
    """Nothing may be left behind by a conversion that is refused."""
    before = sorted(path.name for path in out.parent.iterdir())
    with pytest.raises(ValueError, match=message):
        convert(str(source), out, **options)
    assert sorted(path.name for path in out.parent.iterdir()) == before


@pytest.fixture
def copy(released: tuple[Path, Released], tmp_path: Path) -> Path:
    return Path(shutil.copytree(released[0], tmp_path / "copy"))


def edit_config(folder: Path, **values: Any) -> None:
    """Change settings; those of a dictionary are merged, None removes."""
    config = json.loads((folder / "config.json").read_text())
    for name, value in values.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) and name in config else value
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors, which end up in one file."""
    state: dict[str, Tensor] = {}
    for file in folder.glob("*.safetensors"):
        state |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    change(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"select_layer": -2}, "select_layer is -2"),
        ({"ps_version": "v1"}, "ps_version is 'v1'; only 'v2'"),
        ({"ps_version": None}, "ps_version is 'v1'"),
        ({"downsample_ratio": 0.25}, "downsample_ratio is 0.25"),
        ({"template": "Hermes-2"}, "template is 'Hermes-2'; only internvl2_5"),
        ({"use_llm_lora": 16}, "use_llm_lora is 16; only 0: merge"),
        ({"use_backbone_lora": 8}, "use_backbone_lora is 8"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config is"),
        ({"llm_config": {"architectures": ["InternLM3ForCausalLM"]}}, "only Qwen2ForCausalLM or Qwen3"),
        ({"vision_config": {"patch_size": 16}}, "patch_size is 16"),
        ({"vision_config": {"norm_type": "batch_norm"}}, "norm_type is 'batch_norm'"),
        ({"vision_config": {"qk_normalization": True, "layer_norm_eps": 1e-5}}, "layer_norm_eps is 1e-05"),
        ({"vision_config": {"hidden_size": "wide"}}, "hidden_size"),
        ({"llm_config": {"vocab_size": 300}}, "tokenizer has 363 tokens, its language model only 300"),
        ({"model_type": "qwen2"}, "'qwen2' model; internvl_chat, internvl, vqathinker can be"),
    ],
)
def test_settings_that_are_refused(copy: Path, tmp_path: Path, values: dict[str, Any], message: str) -> None:
    edit_config(copy, **values)
    refused(copy, tmp_path / "out", message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({"optimizer.step": torch.zeros(2)}), "1 unused: optimizer.step;"),
        (lambda s: s.pop("motion_mlp.3.bias"), "1 missing: model.motion_projector.linear_2.bias;"),
        (lambda s: s.pop("language_model.lm_head.weight"), "1 missing: lm_head.weight;"),
        (
            lambda s: s.update({"mlp1.1.bias": torch.zeros(3584)}),
            r"1 mismatched: mlp1.1.bias \(shape \(3584,\), expected \(48,\)\)",
        ),
        (
            lambda s: s.update({"vision_model.encoder.layers.0.attn.qkv.bias": torch.zeros(95)}),
            r"shape \(95,\) for 3 weights, expected \(32,\)",
        ),
        (
            lambda s: s.update({"vision_model.encoder.layers.2.ls1": torch.zeros(32)}),
            "1 unused: vision_model.encoder.layers.2.ls1",
        ),
        (
            lambda s: s.update({"mlp1.1.bias": torch.zeros(48, dtype=torch.int64)}),
            r"mlp1.1.bias \(torch.int64",
        ),
        (
            lambda s: s.update({"mlp1.1.bias": torch.zeros(48, dtype=torch.int8)}),
            "mlp1.1.bias holds I8 values",
        ),
    ],
)
def test_tensors_that_are_refused(
    copy: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    edit_weights(copy, change)
    refused(copy, tmp_path / "out", message)


@pytest.mark.parametrize("is_equal", [True, False])
def test_a_stored_head_of_tied_embeddings(tmp_path: Path, is_equal: bool) -> None:
    release(tmp_path / "source", motion=False, text={"tie_word_embeddings": True})
    embeddings = "language_model.model.embed_tokens.weight"

    def add_head(state: dict[str, Tensor]) -> None:
        state["language_model.lm_head.weight"] = state[embeddings].clone() + (0 if is_equal else 1)

    edit_weights(tmp_path / "source", add_head)
    if not is_equal:
        refused(tmp_path / "source", tmp_path / "out", "lm_head.weight .not the embeddings", motion="none")
        return
    report = convert(str(tmp_path / "source"), tmp_path / "out", motion="none")
    assert report.left_out == ["language_model.lm_head.weight"]
    model, _ = load_policy(tmp_path / "out")
    assert torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)


def test_damaged_sources(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shard = copy / "model-00002-of-00003.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    refused(copy, out, "model-00002-of-00003.safetensors is damaged, fetch it again")
    shard.unlink()
    refused(copy, out, "lacks 1 of its 3 shards such as model-00002")
    shard.write_bytes(whole)

    index_path = copy / "model.safetensors.index.json"
    index = json.loads(index_path.read_text())
    del index["weight_map"]["mlp1.0.bias"]
    index_path.write_text(json.dumps(index))
    refused(copy, out, "shards disagree on mlp1.0.bias")
    index_path.write_text("{")
    refused(copy, out, "index.json is not JSON")
    for file in copy.glob("*.safetensors*"):
        file.unlink()
    torch.save({}, copy / "pytorch_model.bin")
    refused(copy, out, "pickled weights are not read, save them as safetensors")
    (copy / "config.json").write_text("[]")
    refused(copy, out, "not a JSON object")
    (copy / "config.json").unlink()
    refused(copy, out, r"has no config\.json")
    (copy / "adapter_config.json").write_text("{}")
    refused(copy, out, "holds an adapter; merge it")
    refused(tmp_path / "nowhere", out, "nowhere is not a directory")


def test_code_of_a_checkpoint_never_runs(copy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name in ("configuration", "modeling", "tokenization"):
        (copy / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\nraise SystemExit\n")
    path = copy / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"auto_map": {"AutoTokenizer": ["tokenization.T", None]}}))
    convert(str(copy), tmp_path / "out")
    assert not mark.exists()
    assert not list((tmp_path / "out").glob("*.py"))
    assert "auto_map" not in (tmp_path / "out" / "config.json").read_text()


def test_a_tokenizer_without_the_motion_token(copy: Path, tmp_path: Path) -> None:
    for name in ("added_tokens.json", "tokenizer_config.json"):
        path = copy / name
        path.write_text(path.read_text().replace("<|video_pad|>", "<|other|>"))
    refused(copy, tmp_path / "out", r"the tokenizer lacks <\|video_pad\|>")


def test_requests_that_are_refused(
    released: tuple[Path, Released], converted: Path, slowfast: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    refused(converted, out, "is in the layout 'vqathinker' already")
    refused(released[0], out, "has a motion branch of its own", slowfast=slowfast)
    release(tmp_path / "plain", motion=False)
    refused(tmp_path / "plain", out, "without motion; leave", slowfast=slowfast, target="internvl-hf")
    (tmp_path / "junk.pyth").write_bytes(b"junk")
    refused(tmp_path / "plain", out, "junk.pyth is not a file of tensors", slowfast=tmp_path / "junk.pyth")
    torch.save({"model_state": {}}, tmp_path / "empty.pyth")
    refused(tmp_path / "plain", out, "not a SlowFast checkpoint", slowfast=tmp_path / "empty.pyth")


# --- the folder that is written


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a mount point there")
def test_a_mount_point_is_refused_before_the_work() -> None:
    with pytest.raises(ValueError, match="/proc is a mount point"):
        check_free(Path("/proc"), overwrite=True)


def test_only_conversions_are_overwritten(released: tuple[Path, Released], tmp_path: Path) -> None:
    source, out = str(released[0]), tmp_path / "out"
    out.mkdir()
    convert(source, out)
    with pytest.raises(ValueError, match="out is not empty"):
        convert(source, out)
    (out / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"holds notes\.txt, which no conversion wrote"):
        convert(source, out, overwrite=True)
    (out / "notes.txt").unlink()
    (out / "config.json").write_text("{}")
    convert(source, out, overwrite=True)
    load_policy(out)
    with pytest.raises(ValueError, match="out holds the source"):
        convert(str(out), out, target="internvl-hf", overwrite=True)
    refused(released[0], released[0], "holds added_tokens.json, which no conversion", overwrite=True)
    load_policy(out)


def test_a_failure_while_writing_leaves_nothing(released: tuple[Path, Released], tmp_path: Path) -> None:
    def full(done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        convert(str(released[0]), tmp_path / "out", on_shard=full)
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from vqathinker.checkpoints.convert import convert

def kill(done, total):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

convert(sys.argv[1], sys.argv[2], on_shard=kill)
"""


@pytest.mark.slow
def test_a_killed_conversion_leaves_no_checkpoint(released: tuple[Path, Released], tmp_path: Path) -> None:
    source, out = str(released[0]), tmp_path / "out"
    run = subprocess.run([sys.executable, "-c", KILLED, source, str(out)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    with pytest.raises(ValueError, match=r"\.out\.partial is of an interrupted or a running conversion"):
        convert(source, out)
    convert(source, out, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    load_policy(out)


# --- the command


def test_the_command(released: tuple[Path, Released], copy: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "report.json"
    result = call("convert", released[0], out, "--report", report)
    assert result.exit_code == 0, result.output
    for part, number in (("vision_model", 32), ("slowfast_model", 228), ("missing", 0)):
        assert re.search(rf"{part}\W+{number}\b", result.stdout), part
    assert json.loads(report.read_text()) == json.loads((out / "conversion.json").read_text())
    assert load_policy(out)[1].prompt["question"] == QUESTION

    edit_weights(copy, lambda s: s.update({"a.b": torch.zeros(1), "a.c": torch.zeros(1)}))
    again = call("convert", copy, tmp_path / "bad", "--report", report)
    assert again.exit_code == 2
    assert "report.json exists; give --overwrite" in again.stderr
    report.unlink()
    refusal = call("convert", copy, tmp_path / "bad", "--report", report)
    assert refusal.exit_code == 2
    assert "2 unused: a.b, a.c" in refusal.stderr.splitlines()[-1]
    assert json.loads(report.read_text())["unused"] == ["a.b", "a.c"]
    assert not (tmp_path / "bad").exists()

    prompt = tmp_path / "prompt.txt"
    prompt.write_text("How sharp is it?")
    back = call("convert", released[0], tmp_path / "asked", "--prompt", prompt)
    assert back.exit_code == 0, back.output
    assert load_policy(tmp_path / "asked")[1].prompt["question"] == "How sharp is it?"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "gguf"], "unknown --to 'gguf', choose one of vqathinker, internvl-hf"),
        (["--slowfast", "none.pyth"], "--slowfast none.pyth is not a file"),
        (["--prompt", "none.txt"], "none.txt"),
        (["--report", "none/r.json"], "--report none/r.json: none is not a folder"),
    ],
)
def test_errors_are_one_line(
    released: tuple[Path, Released], tmp_path: Path, options: list[str], message: str
) -> None:
    result = call("convert", released[0], tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
