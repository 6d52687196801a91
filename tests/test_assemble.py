"""A checkpoint from its published parts, and what loading refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pytorchvideo.models.slowfast import create_slowfast
from safetensors.torch import load_file, save_file
from transformers import InternVLConfig, InternVLForConditionalGeneration, Qwen2Config

from vqathinker.model import VQAThinkerForConditionalGeneration
from vqathinker.model.assemble import assemble, load_policy
from vqathinker.prompts import Prompt

Policies = Callable[..., tuple[Any, Any]]
SIZES: dict[str, Any] = {"slowfast_depth": 18, "slowfast_stem_dim": 16}
FRAMES: dict[str, Any] = {"frame_size": 56, "scoring_frame_size": 56, "scoring_num_frames": 6}


@pytest.fixture(scope="module")
def internvl(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as transformers itself writes an InternVL."""
    folder = tmp_path_factory.mktemp("parts") / "InternVL3-tiny-hf"
    model, processor = load_policy(checkpoints["none"])
    known = InternVLConfig().to_dict()
    values = {k: v for k, v in model.config.to_dict().items() if k in known and k != "model_type"}
    stock = InternVLForConditionalGeneration(InternVLConfig(**values))
    stock.load_state_dict(model.state_dict())
    stock.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def slowfast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SlowFast file laid out like the published one."""
    path = tmp_path_factory.mktemp("slowfast") / "SLOWFAST_8x8_R50.pyth"
    network = create_slowfast(model_depth=18, stem_dim_outs=(16, 2))
    torch.save({"model_state": network.state_dict()}, path)
    return path


@pytest.mark.parametrize("motion", ["slowfast", "fast"])
def test_parts_come_together(internvl: Path, slowfast: Path, tmp_path: Path, motion: str) -> None:
    out = tmp_path / "policy"
    assemble(
        str(internvl), slowfast, out, motion=motion, prompt=Prompt(question="Rate it."), **SIZES, **FRAMES
    )
    model, info = VQAThinkerForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    stock = InternVLForConditionalGeneration.from_pretrained(internvl).state_dict()
    published = torch.load(slowfast, weights_only=True)["model_state"]
    for name, tensor in model.state_dict().items():
        if name.startswith("model.slowfast."):
            assert torch.equal(tensor, published[name.removeprefix("model.slowfast.")]), name
        elif name.startswith("model.motion_projector."):
            assert tensor.isfinite().all(), name
        else:
            assert torch.equal(tensor, stock[name]), name
    assert model.model.motion_projector.linear_1.weight.std() > 0

    loaded, processor = load_policy(out)
    assert loaded.config.motion == processor.motion == motion
    assert (loaded.config.image_token_id, loaded.config.motion_token_id) == processor.placeholder_ids
    assert processor.prompt["question"] == "Rate it."
    assert processor.scoring.size == 56


def test_parts_without_motion(internvl: Path, tmp_path: Path) -> None:
    assemble(str(internvl), None, tmp_path, motion="none", dtype=torch.bfloat16, **FRAMES)
    model, _ = load_policy(tmp_path)
    assert not hasattr(model.model, "slowfast")
    assert model.dtype == torch.bfloat16


def test_bfloat16_keeps_slowfast(internvl: Path, slowfast: Path, tmp_path: Path) -> None:
    assemble(str(internvl), slowfast, tmp_path, dtype=torch.bfloat16, **SIZES, **FRAMES)
    model, _ = load_policy(tmp_path)
    assert model.dtype == torch.bfloat16
    published = torch.load(slowfast, weights_only=True)["model_state"]
    for name, tensor in model.model.slowfast.state_dict().items():
        assert torch.equal(tensor, published[name]), name


def test_files_are_not_overwritten(internvl: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        assemble(str(internvl), None, tmp_path, motion="none", **FRAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assemble(str(internvl), None, tmp_path, motion="none", overwrite=True, **FRAMES)
    assert (tmp_path / "model.safetensors").is_file()


def test_slowfast_is_required(internvl: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="motion='slowfast' needs a SlowFast checkpoint"):
        assemble(str(internvl), None, tmp_path / "out", **FRAMES)


def test_slowfast_must_fit(internvl: Path, slowfast: Path, tmp_path: Path) -> None:
    sizes = {"slowfast_depth": 18, "slowfast_stem_dim": 8}
    with pytest.raises(ValueError, match="not a SlowFast checkpoint of this size"):
        assemble(str(internvl), slowfast, tmp_path / "out", **sizes, **FRAMES)
    assert not (tmp_path / "out").exists()


def test_other_models_are_refused(tmp_path: Path) -> None:
    Qwen2Config().save_pretrained(tmp_path / "qwen")
    with pytest.raises(ValueError, match="'qwen2' model; give an InternVL checkpoint"):
        assemble(str(tmp_path / "qwen"), None, tmp_path / "out", motion="none")


def test_loading_needs_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing is not a directory"):
        load_policy(tmp_path / "missing")


def test_loading_needs_a_processor(policies: Policies, tmp_path: Path) -> None:
    model, _ = policies()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no processor_config\.json"):
        load_policy(tmp_path)


def test_loading_needs_every_weight(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoints["fast"], tmp_path / "policy")
    weights = load_file(tmp_path / "policy" / "model.safetensors")
    del weights["model.motion_projector.positions.weight"]
    save_file(weights, tmp_path / "policy" / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"lacks 1 weights such as model\.motion_projector\.positions\.weight"
    ):
        load_policy(tmp_path / "policy")


@torch.no_grad()
def test_adapter_is_merged(policies: Policies, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model, processor = policies()
    batch = processor([torch.randint(0, 256, (6, 30, 40, 3), dtype=torch.uint8).numpy()])
    before = model(**batch).logits
    adapted = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    ).eval()
    expected = adapted(**batch).logits
    assert (expected - before).abs().max() > 1e-3
    adapted.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert not (tmp_path / "config.json").exists()
    merged, _ = load_policy(tmp_path)
    assert type(merged) is VQAThinkerForConditionalGeneration
    torch.testing.assert_close(merged.eval()(**batch).logits, expected, rtol=0, atol=1e-4)
