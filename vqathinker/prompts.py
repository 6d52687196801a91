"""The one place that words what the model is asked.

A prompt is text around the video: an opening, a label before each frame, a label before the motion token, a
separator after each of them, and the question. The processor fills in the visual tokens and stores the prompt
in the checkpoint.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

OPENING = "You will watch a video. "
IMAGE_OPENING = "You will see a picture. "  # in place of an opening before a picture
PAIR_OPENING = "You will see two of them, one after the other. "  # likewise before two media
PAIR_LABELS = ("The first one: ", "The second one: ")
FRAME_LABEL = "Frame{number}: "
MOTION_LABEL = "Motion Feature: "
SEPARATOR = "\n"
SCORE_QUESTION = (
    "How good is the overall quality of this video? Answer with one number between 1 and 5 with two "
    "decimals, where 1 is very poor and 5 is excellent. Write your reasoning between <think> and </think>, "
    "then only the number between <answer> and </answer>."
)

LEVEL_QUESTION = "How would you rate the quality of this video?"
LEVEL_OPENING = "The quality of the video is"  # the response's; the level word follows
IMAGE_LEVEL_OPENING = "The quality of the image is"
LEVEL_SENTENCE = re.compile(rf"({LEVEL_OPENING}|{IMAGE_LEVEL_OPENING}) (\w+)")
DESCRIBE_QUESTION = (
    "Describe the quality of this video: sharpness, noise, compression, exposure, colour, and how steady and "
    "fluent the motion is."
)


@dataclass(frozen=True)
class Prompt:
    """The wording around one video.

    Attributes:
        opening: text before the first frame.
        frame_label: text before every frame; `{number}` counts the frames from 1.
        motion_label: text before the motion token.
        question: what is asked about the video.
        separator: text after every frame and after the motion token.
    """

    opening: str = OPENING
    frame_label: str = FRAME_LABEL
    motion_label: str = MOTION_LABEL
    question: str = SCORE_QUESTION
    separator: str = SEPARATOR

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise ValueError("the prompt needs a question")
        try:
            self.frame_label.format(number=1)
        except (LookupError, ValueError) as error:
            raise ValueError(f"frame_label {self.frame_label!r}: only {{number}} can be filled in") from error

    @classmethod
    def from_dict(cls, values: dict[str, str]) -> Prompt:
        """Build a prompt from some or all of its five texts; the others keep their defaults.

        Raises:
            ValueError: if a key is none of the five, or a value is not text.

        >>> Prompt.from_dict({"question": "Rate it."}).frame_label
        'Frame{number}: '
        """
        known = [f.name for f in fields(cls)]
        for key, text in values.items():
            if key not in known or not isinstance(text, str):
                raise ValueError(f"prompt entry {key!r}: expected text under one of {', '.join(known)}")
        return cls(**values)

    @classmethod
    def from_file(cls, path: str | Path) -> Prompt:
        """Read a prompt from a file.

        Args:
            path: a `.yaml` file with some of the five texts, or any other file, which is the question alone.

        Raises:
            ValueError: if the texts are not those of a prompt.
        """
        text = Path(path).read_text(encoding="utf-8")
        if Path(path).suffix not in {".yaml", ".yml"}:
            return cls(question=text.strip())
        import yaml

        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is no YAML: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path}: expected a mapping of prompt texts")
        return cls.from_dict(values)

    def ask(self, question: str) -> Prompt:
        """The same wording around the video with another question."""
        return replace(self, question=question)

    def to_dict(self) -> dict[str, str]:
        """The five texts."""
        return asdict(self)


# What the released VQAThinker weights are asked by their authors' inference script, to the letter.
RELEASED = Prompt(
    opening="Now you will receive a video:",
    question=(
        "You are doing the video quality assessment task. Here is the question: What is your overall rating "
        "on the quality of this video? The rating should be a float between 1 and 5, rounded to two decimal "
        "places, with 1 representing very poor quality and 5 representing excellent quality."
        "First output the thinking process in <think> </think> tags and then output the final answer in "
        "<answer> </answer> tags."
    ),
    separator="",
)


def pair_text(prompt: Prompt, first: str, second: str) -> str:
    """A prompt about two media up to its question.

    Args:
        prompt: the wording.
        first: `visual_text` of the first medium with a prompt without opening.
        second: likewise.

    >>> pair_text(Prompt(separator=" "), "<.> ", "<~> ")
    'You will see two of them, one after the other. The first one: <.> The second one: <~> '
    """
    opening = PAIR_OPENING if prompt.opening else ""
    return opening + "".join(label + text for label, text in zip(PAIR_LABELS, (first, second), strict=True))


def visual_text(
    prompt: Prompt,
    *,
    image: str,
    motion: str,
    kind: str,
    num_frames: int,
    tokens_per_frame: int,
    is_image: bool = False,
) -> str:
    """A prompt up to its question, with a placeholder for every visual feature.

    A picture has neither labels nor a motion feature.

    Args:
        prompt: the wording.
        image: start, placeholder and end of a frame's features, parted by blanks.
        motion: likewise of a motion feature.
        kind: motion variant: "slowfast" (one feature at the end), "fast" (one after each frame) or "none".
        num_frames: T.
        tokens_per_frame: visual tokens of one frame.
        is_image: whether the one frame is a picture.

    >>> marks = {"image": "< . >", "motion": "< ~ >", "kind": "slowfast"}
    >>> visual_text(Prompt(opening="", separator=" "), **marks, num_frames=1, tokens_per_frame=2)
    'Frame1: <..> Motion Feature: <~> '
    """
    start, mark, end = image.split()
    frame = f"{start}{mark * tokens_per_frame}{end}"
    if is_image:
        return f"{IMAGE_OPENING if prompt.opening else ''}{frame}{prompt.separator}"
    feature = "".join(motion.split())
    per_frame = feature if kind == "fast" else ""
    frames = "".join(
        f"{prompt.frame_label.format(number=i + 1)}{frame}{per_frame}{prompt.separator}"
        for i in range(num_frames)
    )
    last = f"{prompt.motion_label}{feature}{prompt.separator}" if kind == "slowfast" else ""
    return prompt.opening + frames + last
