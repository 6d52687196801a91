"""A checkpoint from its published parts, and what loading refuses."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pytorchvideo.models.slowfast import create_slowfast
from safetensors.torch import load_file, save_file
from transformers import InternVLConfig, InternVLForConditionalGeneration, Qwen2Config

from vqathinker.checkpoints.assemble import assemble, load_policy
from vqathinker.checkpoints.convert import convert
from vqathinker.checkpoints.layouts import our_names
from vqathinker.checkpoints.tensors import ConversionError
from vqathinker.model import VQAThinkerForConditionalGeneration
from vqathinker.model.modeling import LANGUAGE_MODELS
from vqathinker.prompts import Prompt

Policies = Callable[..., tuple[Any, Any]]
KILLED = """
import os, signal, sys
from vqathinker.cli import app
from vqathinker.checkpoints import convert

write = convert.write


def until_the_first_shard(folder, shards, on_shard):
    def kill(done, total):
        os.kill(os.getpid(), signal.SIGKILL)

    write(folder, shards, kill)


convert.write = until_the_first_shard
app(sys.argv[1:])
"""
FRAMES: dict[str, Any] = {"frame_size": 56, "scoring_frame_size": 56, "scoring_num_frames": 6}


def write_internvl(folder: Path, kind: str = "qwen2") -> InternVLForConditionalGeneration:
    """Write what transformers itself writes of an InternVL with such a language model."""
    settings = json.loads((folder / "config.json").read_text())
    text = {**settings["text_config"], "model_type": kind, "head_dim": 32}
    for name in ("layer_types", "architectures"):
        text.pop(name, None)
    config = InternVLConfig(
        text_config=text,
        vision_config=settings["vision_config"],
        image_token_id=settings["image_token_id"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(3)
    stock = InternVLForConditionalGeneration(config).eval()
    stock.save_pretrained(folder)
    return stock


@pytest.fixture(scope="module")
def internvl(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as transformers itself writes an InternVL."""
    folder = tmp_path_factory.mktemp("parts") / "InternVL3-tiny-hf"
    folder.mkdir()
    shutil.copy(checkpoints["none"] / "config.json", folder)
    write_internvl(folder)
    load_policy(checkpoints["none"])[1].tokenizer.save_pretrained(folder)
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
    assemble(str(internvl), slowfast, out, motion=motion, prompt=Prompt(question="Rate it."), **FRAMES)
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
    assemble(str(internvl), None, tmp_path / "out", motion="none", dtype=torch.bfloat16, **FRAMES)
    model, _ = load_policy(tmp_path / "out")
    assert not hasattr(model.model, "slowfast")
    assert model.dtype == torch.bfloat16


def test_bfloat16_keeps_slowfast(internvl: Path, slowfast: Path, tmp_path: Path) -> None:
    assemble(str(internvl), slowfast, tmp_path, dtype=torch.bfloat16, **FRAMES)
    model, _ = load_policy(tmp_path)
    assert model.dtype == torch.bfloat16
    published = torch.load(slowfast, weights_only=True)["model_state"]
    for name, tensor in model.model.slowfast.state_dict().items():
        assert torch.equal(tensor, published[name]), name


def test_files_are_not_overwritten(internvl: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        assemble(str(internvl), None, out, motion="none", **FRAMES)
    with pytest.raises(ValueError, match=r"holds notes\.txt, which no conversion wrote"):
        assemble(str(internvl), None, out, motion="none", overwrite=True, **FRAMES)
    (out / "notes.txt").unlink()
    assemble(str(internvl), None, out, motion="none", **FRAMES)
    assemble(
        str(internvl), None, out, motion="none", overwrite=True, prompt=Prompt(question="Why?"), **FRAMES
    )
    assert load_policy(out)[1].prompt["question"] == "Why?"


def test_slowfast_is_required(internvl: Path, slowfast: Path, tmp_path: Path) -> None:
    for give in (partial(assemble, str(internvl), None), partial(convert, str(internvl))):
        with pytest.raises(
            ValueError, match=r"motion='slowfast' needs a SlowFast checkpoint: .*--motion none"
        ):
            give(tmp_path / "out")
    with pytest.raises(ValueError, match=r"stays without motion .*; leave the SlowFast checkpoint out"):
        assemble(str(internvl), slowfast, tmp_path / "out", motion="none")
    assert not (tmp_path / "out").exists()


def test_slowfast_must_fit(internvl: Path, slowfast: Path, tmp_path: Path) -> None:
    state = torch.load(slowfast, weights_only=True)["model_state"]
    del state["blocks.4.multipathway_blocks.1.res_blocks.0.branch2.conv_a.weight"]
    torch.save({"model_state": state}, tmp_path / "damaged.pyth")
    with pytest.raises(ValueError, match="not a SlowFast checkpoint of this size"):
        assemble(str(internvl), tmp_path / "damaged.pyth", tmp_path / "out", **FRAMES)
    assert not (tmp_path / "out").exists()


def test_other_models_are_refused(tmp_path: Path) -> None:
    Qwen2Config().save_pretrained(tmp_path / "qwen")
    with pytest.raises(
        ValueError, match="'qwen2' model; internvl_chat, internvl, vqathinker can be converted"
    ):
        assemble(str(tmp_path / "qwen"), None, tmp_path / "out", motion="none")


@pytest.mark.parametrize("part", ["vision_tower", "multi_modal_projector", "language_model", "lm_head"])
def test_an_incomplete_source_is_refused_by_name(internvl: Path, tmp_path: Path, part: str) -> None:
    source = Path(shutil.copytree(internvl, tmp_path / "source"))
    weights = load_file(source / "model.safetensors")
    gone = max(name for name in weights if part in name)
    save_file({n: w for n, w in weights.items() if n != gone}, source / "model.safetensors", {"format": "pt"})
    ours = our_names(gone, "internvl")[0]
    with pytest.raises(ConversionError, match=re.escape(f"1 missing: {ours};")):
        assemble(str(source), None, tmp_path / "out", motion="none", **FRAMES)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_init_leaves_no_checkpoint(internvl: Path, slowfast: Path, tmp_path: Path) -> None:
    """The command in a process of its own, killed at the first shard; then it runs through without noise."""
    line = ["init", "--internvl", str(internvl), "--slowfast", str(slowfast), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", KILLED, *line], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    whole = [sys.executable, "-m", "vqathinker.cli", *line, "--overwrite"]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert not [text for text in done.stderr.splitlines() if "WARNING" not in text]  # DeepSpeed's, of a CPU
    load_policy(tmp_path / "out")


# --- what a configuration says against its tensors


@torch.no_grad()
@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_tensors_win_over_defaults(internvl: Path, tmp_path: Path, kind: str) -> None:
    """A source in the form of the published ones: what transformers leaves out, and settings of its own."""
    source = Path(shutil.copytree(internvl, tmp_path / "source"))
    stock = write_internvl(source, kind)
    settings = json.loads((source / "config.json").read_text())
    for name in ("tie_word_embeddings", "image_token_id", "dtype"):  # True, 151667 and none by default
        settings.pop(name, None)
    outward = {"return_dict": False, "output_hidden_states": True, "dtype": "float16"}
    settings |= {"return_dict": False, "output_attentions": True}
    settings["text_config"] |= {**outward, "tie_word_embeddings": False, "use_cache": False}
    settings["vision_config"] |= outward
    (source / "config.json").write_text(json.dumps(settings))

    assemble(str(source), None, tmp_path / "ours", motion="none", **FRAMES)
    convert(str(tmp_path / "ours"), tmp_path / "back", target="internvl-hf")
    model, processor = load_policy(tmp_path / "ours")
    assert model.dtype == torch.float32
    assert not model.config.tie_word_embeddings
    assert not model.config.text_config.tie_word_embeddings
    ids, frames = torch.tensor([processor.prompt_ids(2, 4)]), torch.randn(2, 3, 56, 56)
    expected = stock(input_ids=ids, pixel_values=frames).logits
    torch.testing.assert_close(model.eval()(input_ids=ids, pixel_values=frames).logits, expected)
    back = InternVLForConditionalGeneration.from_pretrained(tmp_path / "back").eval()
    torch.testing.assert_close(back(input_ids=ids, pixel_values=frames).logits, expected)
    state = stock.state_dict()
    assert state.keys() == back.state_dict().keys()
    for name, weight in back.state_dict().items():
        assert torch.equal(weight, state[name]), name


@pytest.mark.parametrize(
    ("in_text", "at_top", "head", "is_tied"),
    [
        (None, None, "equal", True),
        (None, None, "none", True),
        (None, None, "other", False),
        (False, None, "equal", False),
        (False, True, "other", False),
        (None, True, "other", False),
        (None, False, "equal", False),
        (True, None, "none", True),
        (True, None, "other", r"mismatched: language_model\.lm_head\.weight"),
        (False, None, "none", "missing: lm_head.weight"),
        (None, False, "none", "missing: lm_head.weight"),
    ],
)
def test_the_head_says_whether_it_is_the_embeddings(
    internvl: Path, tmp_path: Path, in_text: bool | None, at_top: bool | None, head: str, is_tied: bool | str
) -> None:
    source = Path(shutil.copytree(internvl, tmp_path / "source"))
    settings = json.loads((source / "config.json").read_text())
    for part, value in ((settings, at_top), (settings["text_config"], in_text)):
        part.pop("tie_word_embeddings", None)
        part |= {} if value is None else {"tie_word_embeddings": value}
    (source / "config.json").write_text(json.dumps(settings))
    weights = load_file(source / "model.safetensors")
    names = {our_names(name, "internvl")[0]: name for name in weights}
    embeddings = weights[names["model.language_model.embed_tokens.weight"]]
    stored = weights.pop(names["lm_head.weight"])
    if head != "none":
        weights[names["lm_head.weight"]] = embeddings.clone() if head == "equal" else stored
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    if isinstance(is_tied, str):
        with pytest.raises(ConversionError, match=is_tied):
            assemble(str(source), None, tmp_path / "out", motion="none", **FRAMES)
        return
    assemble(str(source), None, tmp_path / "out", motion="none", **FRAMES)
    model, _ = load_policy(tmp_path / "out")
    assert model.config.tie_word_embeddings is is_tied
    assert (model.lm_head.weight is model.get_input_embeddings().weight) is is_tied
    assert torch.equal(model.lm_head.weight, stored if head == "other" else embeddings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"model_type": "gpt_oss"}, "the language model is a 'gpt_oss'; those .* are qwen2, qwen3"),
        ({"model_type": "llama"}, "'llama'"),
        ({"model_type": "qwen3_moe"}, "'qwen3_moe'"),
        ({"model_type": "nobodys"}, "'nobodys'"),
        ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "'sliding_attention'"),
    ],
)
def test_other_language_models_are_refused_by_name(
    internvl: Path, tmp_path: Path, text: dict[str, Any], message: str
) -> None:
    source = Path(shutil.copytree(internvl, tmp_path / "source"))
    settings = json.loads((source / "config.json").read_text())
    settings["text_config"] |= text
    (source / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message):
        assemble(str(source), None, tmp_path / "out", motion="none", **FRAMES)


def test_settings_that_cannot_be_saved_are_left_out(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    source = Path(shutil.copytree(checkpoints["none"], tmp_path / "source"))
    file = source / "generation_config.json"
    settings = json.loads(file.read_text()) | {"eos_token_id": [2, 0], "do_sample": False, "temperature": 0.6}
    file.write_text(json.dumps(settings))
    model, _ = load_policy(source)
    model.save_pretrained(tmp_path / "out")
    again = VQAThinkerForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert again.generation_config.eos_token_id == [2, 0]
    file.write_text(json.dumps(settings | {"do_sample": True}))
    assert load_policy(source)[0].generation_config.temperature == 0.6


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
