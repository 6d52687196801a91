"""From sampled frames and a question to the model's inputs.

Everything that shapes a score beside the weights is kept here and saved with the checkpoint: number and size
of the frames, normalisation, wording, placeholder tokens. Knows no files: `vqathinker.media` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoProcessor, BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from vqathinker.media.square import square
from vqathinker.model.modeling import VQAThinkerConfig, check_motion
from vqathinker.prompts import (
    IMAGE_LEVEL_OPENING,
    LEVEL_OPENING,
    LEVEL_QUESTION,
    Prompt,
    pair_text,
    visual_text,
)
from vqathinker.scale import WORDS
from vqathinker.types import PIXELS_PER_TOKEN as PIXELS_PER_TOKEN
from vqathinker.types import FrameSetting as FrameSetting
from vqathinker.types import Shown as Shown

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGE_START = "<img>"
IMAGE_END = "</img>"
IMAGE_TOKEN = "<IMG_CONTEXT>"
MOTION_TOKEN = "<|video_pad|>"
VIDEO_MARKS = ("<video>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>")


class VQAThinkerProcessor(ProcessorMixin):
    """Tokenizer, frame transform and wording of one checkpoint.

    Args:
        tokenizer: must know the placeholder tokens `<img>`, `</img>`, `<IMG_CONTEXT>` and the motion token.
        num_frames: keyframes in training (paper: 6).
        frame_size: their side in pixels in training (paper: 448).
        scoring_num_frames: keyframes in scoring (paper: 12).
        scoring_frame_size: their side in pixels in scoring (paper: 560).
        motion: the model's motion variant, which decides where motion tokens stand.
        motion_token: reserved token that stands for a motion feature.
        image_mean: per-channel mean of pixels in [0, 1].
        image_std: per-channel standard deviation.
        prompt: the five texts of `vqathinker.prompts.Prompt`; missing ones take the defaults.
        level_words: the five words that tell a level, best first.
        level_question: what is asked where a level is read; "" for nothing.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        num_frames: int = 6,
        frame_size: int = 448,
        scoring_num_frames: int = 12,
        scoring_frame_size: int = 560,
        motion: str = "slowfast",
        motion_token: str = MOTION_TOKEN,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        prompt: dict[str, str] | None = None,
        level_words: Sequence[str] = WORDS,
        level_question: str = LEVEL_QUESTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(tokenizer, **kwargs)  # type: ignore[no-untyped-call]
        check_motion(motion)
        FrameSetting(num_frames, frame_size)  # raises for a size that cannot be
        FrameSetting(scoring_num_frames, scoring_frame_size)
        vocabulary = tokenizer.get_vocab()
        missing = [t for t in (IMAGE_START, IMAGE_END, IMAGE_TOKEN, motion_token) if t not in vocabulary]
        if missing:
            raise ValueError(
                f"the tokenizer lacks {', '.join(missing)}; take that of an InternVL3 checkpoint"
            )
        self.num_frames = num_frames
        self.frame_size = frame_size
        self.scoring_num_frames = scoring_num_frames
        self.scoring_frame_size = scoring_frame_size
        self.motion = motion
        self.motion_token = motion_token
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.prompt = Prompt.from_dict(prompt or {}).to_dict()
        self.level_words = list(level_words)
        self.level_question = level_question

    @property
    def training(self) -> FrameSetting:
        """Keyframes in training."""
        return FrameSetting(self.num_frames, self.frame_size)

    @property
    def scoring(self) -> FrameSetting:
        """Keyframes in scoring."""
        return FrameSetting(self.scoring_num_frames, self.scoring_frame_size)

    @property
    def placeholder_ids(self) -> tuple[int, int]:
        """Ids that stand for a frame feature and for a motion feature."""
        image, motion = self.tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, self.motion_token])
        return image, motion

    def level_opening_ids(self, *, is_image: bool = False) -> list[int]:
        """Ids of the sentence that a level word ends, about a video or a picture."""
        return self._ids(IMAGE_LEVEL_OPENING if is_image else LEVEL_OPENING)

    @property
    def level_ids(self) -> list[int]:
        """Ids that the level words begin with after a blank, best first.

        Raises:
            ValueError: if the tokenizer cannot tell them apart.
        """
        return self.first_ids([f" {word}" for word in self.level_words])

    def first_ids(self, texts: Sequence[str]) -> list[int]:
        """The first id of each text.

        Raises:
            ValueError: if two are the same.
        """
        ids = [self._ids(text)[0] for text in texts]
        if len(set(ids)) < len(ids):
            raise ValueError(f"the first tokens of {', '.join(map(str.strip, texts))} are not distinct")
        return ids

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]

    @property
    def suppressed_ids(self) -> list[int]:
        """Ids that a response may never hold: placeholders and the other marks of visual content."""
        marks = (IMAGE_TOKEN, self.motion_token, IMAGE_START, IMAGE_END, *VIDEO_MARKS)
        vocabulary = self.tokenizer.get_vocab()
        return sorted({vocabulary[mark] for mark in marks if mark in vocabulary})

    def pixels(self, frames: NDArray[np.uint8], size: int) -> Tensor:
        """Resize to a square (bicubic, antialiased) and normalise.

        Args:
            frames: (T, H, W, 3) uint8 RGB.
            size: side of the square in pixels.

        Returns:
            (T, 3, size, size) float32.
        """
        images = torch.from_numpy(square(frames, size)).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.image_mean, self.image_std))
        return (images.float() / 255 - mean) / std

    def visual_text(
        self,
        num_frames: int,
        tokens_per_frame: int,
        *,
        is_image: bool = False,
        beside: Shown | None = None,
    ) -> str:
        """The prompt up to its question, with a placeholder for every visual feature.

        Args:
            num_frames: T; may be smaller than in the setting (a perturbation can drop frames).
            tokens_per_frame: visual tokens of one frame.
            is_image: whether the one frame is a picture.
            beside: a second medium.
        """
        prompt = Prompt.from_dict(self.prompt)
        shown = Shown(num_frames, is_image)
        if beside is None:
            return self._medium_text(prompt, shown, tokens_per_frame)
        bare = replace(prompt, opening="")
        texts = [self._medium_text(bare, one, tokens_per_frame) for one in (shown, beside)]
        return pair_text(prompt, *texts)

    def _medium_text(self, prompt: Prompt, shown: Shown, tokens_per_frame: int) -> str:
        """The part of a prompt about one medium."""
        return visual_text(
            prompt,
            image=f"{IMAGE_START} {IMAGE_TOKEN} {IMAGE_END}",
            motion=f"{IMAGE_START} {self.motion_token} {IMAGE_END}",
            kind=self.motion,
            num_frames=shown.num_frames,
            tokens_per_frame=tokens_per_frame,
            is_image=shown.is_image,
        )

    def prompt_ids(
        self,
        num_frames: int,
        tokens_per_frame: int,
        *,
        question: str | None = None,
        is_image: bool = False,
        beside: Shown | None = None,
    ) -> list[int]:
        """Token ids of the chat turn around one video: `visual_text` and the question.

        Args:
            num_frames: T.
            tokens_per_frame: visual tokens of one frame.
            question: replaces the prompt's own question; "" asks nothing.
            is_image: whether the one frame is a picture.
            beside: a second medium, shown after the first.

        Raises:
            ValueError: for a question of blanks.
        """
        if question and not question.strip():
            raise ValueError("the prompt needs a question")
        visual = self.visual_text(num_frames, tokens_per_frame, is_image=is_image, beside=beside)
        content = visual + (self.prompt["question"] if question is None else question)
        turn = [{"role": "user", "content": content}]
        text = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return self._ids(text)

    def __call__(
        self,
        videos: Sequence[NDArray[np.uint8]],
        *,
        setting: FrameSetting | None = None,
        question: str | None = None,
    ) -> BatchFeature:
        """Inputs of one or more videos, ready for the model.

        Args:
            videos: N arrays (T, H, W, 3) of sampled uint8 RGB frames.
            setting: frame size; that of scoring if omitted.
            question: replaces the prompt's own question.

        Returns:
            `input_ids` and `attention_mask` (N, L), padded on the left, and `pixel_values` (ΣT, 3, S, S).
        """
        setting = setting or self.scoring
        rows = [self.prompt_ids(len(video), setting.tokens_per_frame, question=question) for video in videos]
        batch = self.tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
        pixels = torch.cat([self.pixels(video, setting.size) for video in videos])
        return BatchFeature({**batch, "pixel_values": pixels})


AutoProcessor.register(VQAThinkerConfig, VQAThinkerProcessor)
