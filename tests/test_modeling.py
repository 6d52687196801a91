"""Features land on their placeholders; without motion the model is transformers' own InternVL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
)

from vqathinker.model import VQAThinkerConfig, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.modeling import VQAThinkerModel

Policies = Callable[..., tuple[Any, Any]]
MOTIONS = ("slowfast", "fast", "none")


def inputs(
    processor: VQAThinkerProcessor, batch: int = 2, num_frames: int = 6, size: int = 56
) -> dict[str, Tensor]:
    """Equal prompts around different noise."""
    ids = processor.prompt_ids(num_frames, (size // 28) ** 2)
    pixels = torch.randn(batch * num_frames, 3, size, size, generator=torch.Generator().manual_seed(0))
    return {"input_ids": torch.tensor([ids] * batch), "pixel_values": pixels}


def test_merge_fills_placeholders_in_order_and_nothing_else(policies: Policies) -> None:
    model, processor = policies("fast")
    image, motion = processor.placeholder_ids
    ids = torch.tensor(
        [[9, image, image, motion, 10, image, motion], [image, 11, motion, image, image, motion, 12]]
    )
    frames = torch.randn(3, 2, 128)
    tokens = torch.randn(2, 2, 128)
    merged = model.model.merge(ids, frames, tokens)
    visual = {image: iter(frames.flatten(0, 1)), motion: iter(tokens.flatten(0, 1))}
    table = model.get_input_embeddings().weight
    for row in range(2):
        for column, token in enumerate(ids[row].tolist()):
            expected = next(visual[token]) if token in visual else table[token]
            assert torch.equal(merged[row, column], expected)


def test_merge_only_where_allowed(policies: Policies) -> None:
    model, processor = policies()
    image, motion = processor.placeholder_ids
    ids = torch.tensor([[image, motion, 9, image, motion, image]])
    allowed = torch.tensor([[True, True, True, False, False, False]])
    frames, tokens = torch.randn(1, 1, 128), torch.randn(1, 1, 128)
    merged = model.model.merge(ids, frames, tokens, allowed)[0]
    assert torch.equal(merged[:2], torch.cat([frames[0], tokens[0]]))
    assert torch.equal(merged[2:], model.get_input_embeddings()(ids)[0, 2:])


@pytest.mark.parametrize(
    ("frames", "tokens", "message"),
    [
        (1, 1, "2 frame placeholders for 1"),
        (3, 1, "2 frame placeholders for 3"),
        (2, 2, "1 motion placeholders for 2"),
    ],
)
def test_merge_counts(policies: Policies, frames: int, tokens: int, message: str) -> None:
    model, processor = policies()
    image, motion = processor.placeholder_ids
    with pytest.raises(ValueError, match=message):
        model.model.merge(
            torch.tensor([[image, image, motion]]), torch.randn(frames, 1, 128), torch.randn(1, tokens, 128)
        )


def test_pixels_need_ids(policies: Policies) -> None:
    model, _ = policies()
    with pytest.raises(ValueError, match="input_ids"):
        model(pixel_values=torch.zeros(6, 3, 56, 56), inputs_embeds=torch.zeros(1, 4, 128))


@torch.no_grad()
@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("bf16", [False, True])
def test_features_in_place_of_pixels(policies: Policies, motion: str, *, bf16: bool) -> None:
    model, processor = policies(motion)
    batch = inputs(processor, 1)
    ids, pixels = batch["input_ids"], batch["pixel_values"]
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        video = {
            "frame_features": model.model.frame_features(pixels),
            "motion_features": model.model.motion_features(pixels[None]),
        }
        assert torch.equal(model(input_ids=ids, **video).logits, model(**batch).logits)
    with pytest.raises(ValueError, match="frame_features need input_ids"):
        model(inputs_embeds=torch.zeros(1, 4, 128), **video)
    if motion != "none":
        with pytest.raises(ValueError, match="and motion_features"):
            model(input_ids=ids, frame_features=video["frame_features"])


@torch.no_grad()
def test_without_motion_it_is_internvl(policies: Policies) -> None:
    model, processor = policies("none")
    known = InternVLConfig().to_dict()
    stock = InternVLForConditionalGeneration(
        InternVLConfig(
            **{k: v for k, v in model.config.to_dict().items() if k in known and k != "model_type"}
        )
    ).eval()
    stock.load_state_dict(model.state_dict())
    batch = inputs(processor)
    torch.testing.assert_close(model(**batch).logits, stock(**batch).logits, rtol=0, atol=1e-6)
    other = inputs(processor)
    other["pixel_values"] += 0.5
    assert (model(**other).logits - model(**batch).logits).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("motion", MOTIONS)
def test_round_trip(policies: Policies, tmp_path: Path, motion: str) -> None:
    model, processor = policies(motion)
    batch = inputs(processor)
    expected = model(**batch).logits
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, info = VQAThinkerForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert again.config.motion == motion
    assert torch.equal(again(**batch).logits, expected)
    auto = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(auto) is VQAThinkerForConditionalGeneration
    assert type(AutoProcessor.from_pretrained(tmp_path)) is VQAThinkerProcessor


def test_auto_classes(checkpoints: dict[str, Path]) -> None:
    config = AutoConfig.from_pretrained(checkpoints["fast"])
    assert type(config) is VQAThinkerConfig
    assert (
        type(AutoModelForCausalLM.from_pretrained(checkpoints["fast"])) is VQAThinkerForConditionalGeneration
    )
    assert type(AutoModel.from_pretrained(checkpoints["fast"])) is VQAThinkerModel


@pytest.mark.parametrize(
    ("motion", "shape"), [("slowfast", (2, 1, 576)), ("fast", (2, 6, 64)), ("none", (2, 0, 576))]
)
def test_motion_features(policies: Policies, motion: str, shape: tuple[int, ...]) -> None:
    model, processor = policies(motion)
    batch = inputs(processor)
    features = model.model.motion_features(batch["pixel_values"].view(2, 6, 3, 56, 56))
    assert features.shape == shape
    assert features.dtype == torch.float32
    with torch.no_grad():
        given = model(**batch, motion_features=features).logits
        torch.testing.assert_close(model(**batch).logits, given)
        if motion != "none":
            assert (model(**batch, motion_features=features.flip(-1)).logits - given).abs().max() > 1e-4


def test_published_widths() -> None:
    assert VQAThinkerConfig().motion_dim == 2304
    assert VQAThinkerConfig(motion="fast").motion_dim == 256


def test_unknown_motion() -> None:
    with pytest.raises(ValueError, match="motion='slow': expected one of slowfast, fast, none"):
        VQAThinkerConfig(motion="slow")


@pytest.mark.parametrize("motion", MOTIONS)
def test_everything_but_slowfast_learns(policies: Policies, motion: str) -> None:
    model, processor = policies(motion)
    batch = inputs(processor)
    model.train()
    model(**batch, labels=batch["input_ids"]).loss.backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert not without
    groups = {name.split(".")[1] for name, _ in model.named_parameters() if name.startswith("model.")}
    expected = {"vision_tower", "multi_modal_projector", "language_model"}
    assert groups == (expected if motion == "none" else expected | {"motion_projector"})


def test_bfloat16(checkpoints: dict[str, Path], policies: Policies) -> None:
    model = VQAThinkerForConditionalGeneration.from_pretrained(checkpoints["slowfast"], dtype=torch.bfloat16)
    full, processor = policies()
    batch = inputs(processor)
    with torch.no_grad():
        logits = model(**batch).logits
        assert logits.dtype == torch.bfloat16
        reference = full(**batch).logits
    assert (logits.float() - reference).abs().mean() < 0.1 * reference.std()
    frames = batch["pixel_values"].view(2, 6, 3, 56, 56)
    assert torch.equal(model.model.motion_features(frames), full.model.motion_features(frames))


@torch.no_grad()
@pytest.mark.parametrize("size", [28, 56, 84, 112])
def test_other_frame_sizes(policies: Policies, size: int) -> None:
    model, processor = policies()
    features = model.model.frame_features(torch.randn(2, 3, size, size))
    assert features.shape == (2, (size // 28) ** 2, 128)
    if size >= 56:
        assert model(**inputs(processor, size=size)).logits.isfinite().all()


@torch.no_grad()
def test_frames_are_encoded_one_by_one(policies: Policies) -> None:
    model, _ = policies()
    frames = torch.randn(5, 3, 56, 56)
    single = torch.cat([model.model.frame_features(frame[None]) for frame in frames])
    torch.testing.assert_close(model.model.frame_features(frames), single)


def test_more_frames_than_places_are_told(policies: Policies) -> None:
    model, _ = policies("fast")
    width = model.config.motion_dim
    with pytest.raises(ValueError, match="65 frames: this checkpoint knows 64 places of frames"):
        model.model.motion_projector(torch.zeros(1, 65, width))
    assert model.model.motion_projector(torch.zeros(1, 64, width)).shape[1] == 64
