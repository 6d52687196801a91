"""Adapters put on, handed out merged and merged for good; the oracle is W + ΔW written out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import permissions
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BatchFeature
from typer.testing import CliRunner

from vqathinker.checkpoints.adapters import merged_weights, put_on
from vqathinker.checkpoints.assemble import load_adapted, load_policy, merge_adapter
from vqathinker.cli import app
from vqathinker.model import VQAThinkerForConditionalGeneration

Policies = Callable[..., tuple[Any, Any]]
WITH_BIAS = {"lora_bias": True, "target_modules": r".*language_model.*(q|v)_proj"}
LAYERS = ["q_proj", "v_proj", "down_proj"]


def adapt(model: VQAThinkerForConditionalGeneration, **options: Any) -> PeftModel:
    """An adapter whose every weight matters, the motion projector among them."""
    settings = {"r": 2, "lora_alpha": 6, "target_modules": LAYERS, "modules_to_save": ["motion_projector"]}
    adapted = get_peft_model(model, LoraConfig(**{**settings, **options}))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn(weight.shape, generator=generator).to(weight)
        assert any("motion_projector.modules_to_save" in name for name, _ in adapted.named_parameters())
    return adapted.eval()  # type: ignore[no-any-return]


def written_out(adapted: PeftModel, scale: float) -> dict[str, Tensor]:
    """W + scale · B A of every layer in fp32, rounded once, from the state alone."""
    state = {name.removeprefix("base_model.model."): t for name, t in adapted.state_dict().items()}
    names = [name for name, _ in adapted.get_base_model().named_parameters()]
    expected = {}
    for name in names:
        if "lora_" in name or "original_module" in name:
            continue
        weight = state[name]
        layer = name.removesuffix(".base_layer.weight")
        if layer != name:
            pair = [state[f"{layer}.lora_{letter}.default.weight"].float() for letter in "BA"]
            weight = (weight.float() + scale * (pair[0] @ pair[1])).to(weight.dtype)
        clean = name.replace(".base_layer", "").replace(".modules_to_save.default", "")
        expected[clean] = weight
    return expected


@pytest.fixture
def adapter(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A folder as training writes it; the base is of its own, so that it can be moved."""
    base = Path(shutil.copytree(checkpoints["slowfast"], tmp_path / "base"))
    model, processor = load_policy(base)
    adapt(model).save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def batch(policies: Policies) -> BatchFeature:
    _, processor = policies()
    inputs: BatchFeature = processor([torch.randint(0, 256, (6, 30, 40, 3), dtype=torch.uint8).numpy()])
    return inputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_handed_out_without_touching_the_base(
    policies: Policies, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = policies()
    adapted = adapt(model.to(dtype))
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    expected = written_out(adapted, 6 / 2)
    for _ in range(50):
        with torch.autocast("cpu", torch.bfloat16):  # as training is, which must not lower the products
            handed = {name: weight.clone() for name, weight in merged_weights(adapted)}
    assert handed.keys() == expected.keys() == dict(policies()[0].named_parameters()).keys()
    for name, weight in expected.items():
        assert handed[name].dtype == weight.dtype == dtype
        torch.testing.assert_close(handed[name], weight, rtol=0, atol=1e-7 if dtype == torch.float32 else 0)
    for name, tensor in adapted.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("variant", [{"use_rslora": True}, {"use_dora": True}, WITH_BIAS])
@torch.no_grad()
def test_variants_are_merged(policies: Policies, batch: BatchFeature, variant: dict[str, Any]) -> None:
    model, _ = policies()
    adapted = adapt(model, **variant)
    expected = adapted(**batch).logits
    plain, _ = policies()
    plain.load_state_dict(dict(merged_weights(adapted)), strict=False)
    torch.testing.assert_close(plain(**batch).logits, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_merging_keeps_the_logits(adapter: Path, batch: BatchFeature, tmp_path: Path) -> None:
    expected = load_adapted(adapter)[0].eval()(**batch).logits
    base = load_policy(tmp_path / "base")[0].eval()
    assert (expected - base(**batch).logits).abs().max() > 1e-3
    merged, _ = load_policy(adapter)
    torch.testing.assert_close(merged.eval()(**batch).logits, expected, rtol=0, atol=1e-5)
    assert all(weight.requires_grad for weight in merged.parameters())

    line = ["merge", str(adapter), str(tmp_path / "merged")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    again, processor = load_policy(tmp_path / "merged")
    torch.testing.assert_close(again.eval()(**batch).logits, expected, rtol=0, atol=1e-5)
    assert processor.prompt == load_policy(tmp_path / "base")[1].prompt
    assert not list((tmp_path / "merged").glob("adapter*"))
    assert len(permissions(tmp_path / "merged")) == 1
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 2
    assert "is not empty" in result.stderr
    assert CliRunner().invoke(app, [*line, "--overwrite"]).exit_code == 0


def test_a_base_that_moved(adapter: Path, batch: BatchFeature, tmp_path: Path) -> None:
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"base, which is not there .* merge .* OUT --base DIR"):
        load_policy(adapter)
    merge_adapter(adapter, tmp_path / "merged", base=tmp_path / "elsewhere")
    found, _ = load_policy(tmp_path / "merged")
    wanted, _ = load_policy(adapter, base=tmp_path / "elsewhere")
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, wanted.state_dict()[name]), name


def test_what_cannot_be_merged_is_named(adapter: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "merged"
    with pytest.raises(ValueError, match="is no adapter"):
        merge_adapter(tmp_path / "base", out)
    with pytest.raises(ValueError, match=r"adapter on .*none has no place for .*motion_projector"):
        merge_adapter(adapter, out, base=checkpoints["none"])
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps(settings | {"base_model_name_or_path": str(adapter)})
    )
    with pytest.raises(ValueError, match="is an adapter itself; merge that first"):
        merge_adapter(adapter, out)
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    stored = load_file(adapter / "adapter_model.safetensors")
    gone = max(name for name in stored if "lora_B" in name)
    save_file({n: t for n, t in stored.items() if n != gone}, adapter / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="lacks 1 tensors such as"):
        merge_adapter(adapter, out)
    save_file(stored | {"base_model.model.other": torch.zeros(1)}, adapter / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="has no place for 1 tensors such as base_model"):
        merge_adapter(adapter, out)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no adapter_model\.safetensors"):
        merge_adapter(adapter, out)
    assert not out.exists()


def test_training_goes_on_from_the_adapter(adapter: Path, tmp_path: Path) -> None:
    policy, _ = load_adapted(adapter, dropout=0.25)
    trained = {name for name, weight in policy.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in policy.named_parameters() if ".default." in name}
    assert any("motion_projector" in name for name in trained)
    policy.save_pretrained(tmp_path / "again")
    settings = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "base")
    assert settings["lora_dropout"] == 0.25
    first, second = (load_file(f / "adapter_model.safetensors") for f in (adapter, tmp_path / "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_adapter_may_be_put_on_by_hand(policies: Policies, adapter: Path) -> None:
    model, _ = policies()
    assert not any(weight.requires_grad for weight in put_on(model, adapter).parameters())
