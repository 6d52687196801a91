"""Pixels as Pillow makes them, prompts token by token, and everything saved with the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, PreTrainedTokenizerBase

from vqathinker.checkpoints.tiny import build_tokenizer
from vqathinker.model import FrameSetting, VQAThinkerProcessor
from vqathinker.prompts import Prompt

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CONTEXT = "<IMG_CONTEXT>"
MOTION = "<img><|video_pad|></img>"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer(Prompt())


def noise(num_frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (40, 30), (56, 56), (540, 960)])
def test_pixels_equal_pillow(tokenizer: PreTrainedTokenizerBase, height: int, width: int) -> None:
    frames = noise(2, height, width)
    pixels = VQAThinkerProcessor(tokenizer).pixels(frames, 56)
    assert pixels.shape == (2, 3, 56, 56)
    assert pixels.dtype == torch.float32
    for frame, got in zip(frames, pixels, strict=True):
        image = Image.fromarray(frame).resize((56, 56), Image.Resampling.BICUBIC)
        expected = (np.asarray(image) / 255 - MEAN) / STD
        levels = np.abs(got.permute(1, 2, 0).numpy() - expected) * STD * 255
        assert levels.max() <= 1.01  # one grey level of rounding
        assert levels.mean() < 0.1


def test_pixels_of_mirrored_frames(tokenizer: PreTrainedTokenizerBase) -> None:
    frames = noise(1, 60, 80)
    processor = VQAThinkerProcessor(tokenizer)
    turned = processor.pixels(frames[:, :, ::-1], 56)
    torch.testing.assert_close(turned.flip(-1), processor.pixels(frames, 56), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("motion", "frames", "ending"),
    [
        ("slowfast", "Frame1: <img>{c}</img>\nFrame2: <img>{c}</img>\n", f"Motion Feature: {MOTION}\n"),
        ("fast", f"Frame1: <img>{{c}}</img>{MOTION}\nFrame2: <img>{{c}}</img>{MOTION}\n", ""),
        ("none", "Frame1: <img>{c}</img>\nFrame2: <img>{c}</img>\n", ""),
    ],
)
def test_prompt_layout(tokenizer: PreTrainedTokenizerBase, motion: str, frames: str, ending: str) -> None:
    processor = VQAThinkerProcessor(tokenizer, motion=motion)
    ids = processor.prompt_ids(2, 9, question="How sharp is it?")
    expected = (
        "<|im_start|>user\nYou will watch a video. "
        + frames.format(c=CONTEXT * 9)
        + ending
        + "How sharp is it?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(ids) == expected
    image, token = processor.placeholder_ids
    assert ids.count(image) == 18
    assert ids.count(token) == {"slowfast": 1, "fast": 2, "none": 0}[motion]


def test_prompt_asks_its_own_question(tokenizer: PreTrainedTokenizerBase) -> None:
    processor = VQAThinkerProcessor(tokenizer, prompt={"question": "Rate it.", "opening": "Look: "})
    text = tokenizer.decode(processor.prompt_ids(1, 4))
    assert text.startswith("<|im_start|>user\nLook: Frame1: ")
    assert text.endswith("\nRate it.<|im_end|>\n<|im_start|>assistant\n")


def test_frame_settings() -> None:
    assert FrameSetting(6, 448).tokens_per_frame == 256
    assert FrameSetting(12, 560).tokens_per_frame == 400


@pytest.mark.parametrize(
    ("num_frames", "size", "message"),
    [(0, 448, "num_frames=0"), (6, 450, "450"), (6, 0, "size 0"), (6, -28, "-28")],
)
def test_impossible_frame_settings(num_frames: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameSetting(num_frames, size)


def test_impossible_settings_are_refused_at_once(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match="size 450"):
        VQAThinkerProcessor(tokenizer, frame_size=450)
    with pytest.raises(ValueError, match="num_frames=0"):
        VQAThinkerProcessor(tokenizer, scoring_num_frames=0)
    with pytest.raises(ValueError, match="motion='slow'"):
        VQAThinkerProcessor(tokenizer, motion="slow")


def test_defaults_are_the_papers(tokenizer: PreTrainedTokenizerBase) -> None:
    processor = VQAThinkerProcessor(tokenizer)
    assert processor.training == FrameSetting(6, 448)
    assert processor.scoring == FrameSetting(12, 560)


def test_missing_tokens_are_named(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ValueError, match=r"lacks <\|other\|>"):
        VQAThinkerProcessor(tokenizer, motion_token="<|other|>")


def test_suppressed_ids_hold_every_placeholder(tokenizer: PreTrainedTokenizerBase) -> None:
    processor = VQAThinkerProcessor(tokenizer)
    suppressed = processor.suppressed_ids
    assert set(processor.placeholder_ids) <= set(suppressed)
    assert set(tokenizer.convert_tokens_to_ids(["<img>", "</img>"])) <= set(suppressed)
    assert tokenizer.eos_token_id not in suppressed
    for text in ("<think>soft</think><answer>3.42</answer>", Prompt().question):
        assert not set(suppressed) & set(tokenizer(text)["input_ids"])


def test_round_trip(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "num_frames": 3,
        "frame_size": 56,
        "scoring_num_frames": 5,
        "scoring_frame_size": 84,
        "motion": "fast",
        "motion_token": "</img>",
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
    }
    prompt = Prompt("See: ", "F{number} ", "M ", "Rate it.").to_dict()
    VQAThinkerProcessor(tokenizer, **settings, prompt=prompt).save_pretrained(tmp_path)
    for load in (VQAThinkerProcessor.from_pretrained, AutoProcessor.from_pretrained):
        again = load(tmp_path)
        assert type(again) is VQAThinkerProcessor
        assert {name: getattr(again, name) for name in settings} == settings
        assert again.prompt == prompt
        ids = VQAThinkerProcessor(tokenizer, **settings, prompt=prompt).prompt_ids(3, 4)
        assert again.prompt_ids(3, 4) == ids


def test_call_pads_on_the_left(tokenizer: PreTrainedTokenizerBase) -> None:
    processor = VQAThinkerProcessor(tokenizer, scoring_num_frames=2, scoring_frame_size=28)
    videos = [noise(2, 30, 40), noise(3, 50, 20)]
    batch = processor(videos, question="Rate it.")
    short, long = (processor.prompt_ids(n, 1, question="Rate it.") for n in (2, 3))
    missing = len(long) - len(short)
    assert missing > 0
    assert batch["input_ids"].tolist() == [[tokenizer.pad_token_id] * missing + short, long]
    assert batch["attention_mask"].tolist() == [[0] * missing + [1] * len(short), [1] * len(long)]
    expected = torch.cat([processor.pixels(video, 28) for video in videos])
    assert torch.equal(batch["pixel_values"], expected)
    assert processor(videos, setting=FrameSetting(2, 56))["pixel_values"].shape == (5, 3, 56, 56)


@torch.no_grad()
def test_call_feeds_the_model(policies: Callable[..., tuple[Any, Any]]) -> None:
    model, processor = policies()
    batch = processor([noise(6, 30, 40), noise(6, 40, 30)])
    assert model(**batch).logits.shape == (*batch["input_ids"].shape, len(processor.tokenizer))


def test_an_empty_question_is_refused(checkpoints: dict[str, Path]) -> None:
    processor = VQAThinkerProcessor.from_pretrained(checkpoints["slowfast"])
    with pytest.raises(ValueError, match="the prompt needs a question"):
        processor.prompt_ids(6, 4, question=" ")
