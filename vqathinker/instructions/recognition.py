"""Distortions to be named.

Sources: VQA² (arXiv 2411.03795), section 3.2; VITAL (arXiv 2511.17962), section 3.1.
"""

from __future__ import annotations

import numpy as np

from vqathinker.instructions.base import Builder, Built, derive, draw, kind_word
from vqathinker.instructions.wording import RECOGNITION_QUESTIONS
from vqathinker.samples import Sample
from vqathinker.scale import UNSEEN

TASK = "recognition"
STYLES = ("vital", "vqa2")
# how a kind is called where its key in other letters would not do
NAMES = {
    "gaussian_blur": "Gaussian blur",
    "color_quantization": "color quantization",
    "saturation_hsv": "color desaturation",
    "saturation_lab": "color oversaturation",
    "jpeg2000": "JPEG2000 compression",
    "jpeg": "JPEG compression",
    "h264": "H264 compression",
    "h265": "H265 compression",
    "denoise": "denoising artifacts",
    "patches": "misplaced patches",
    "contrast": "contrast change",
    "sharpen": "oversharpening",
    "brighten": "brightening",
    "darken": "darkening",
    "pixelate": "pixelation",
}
# VQA²'s eleven distortions of space and two of motion
SPATIAL = (
    "compression artifact", "spatial blur", "motion blur", "noise", "overexposure", "underexposure",
    "low contrast", "high contrast", "oversaturation", "desaturation", "block effect",
)  # fmt: skip
MOTION = ("flickers (camera shake)", "stuttering")
# which of them a kind of ours is; by level where its levels go both ways
VQA2_NAMES: dict[str, str | tuple[str, ...]] = {
    "gaussian_blur": "spatial blur",
    "lens_blur": "spatial blur",
    "motion_blur": "motion blur",
    "jpeg2000": "compression artifact",
    "jpeg": "compression artifact",
    "h264": "compression artifact",
    "h265": "compression artifact",
    "white_noise": "noise",
    "color_noise": "noise",
    "impulse_noise": "noise",
    "multiplicative_noise": "noise",
    "brighten": "overexposure",
    "darken": "underexposure",
    "mean_shift": ("overexposure", "overexposure", "", "underexposure", "underexposure"),
    "contrast": ("high contrast", "high contrast", "high contrast", "low contrast", "low contrast"),
    "saturation_lab": "oversaturation",
    "saturation_hsv": "desaturation",
    "pixelate": "block effect",
    "color_block": "block effect",
    "camera_shake": MOTION[0],
    "stutter": MOTION[1],
}


class Recognition(Builder):
    """The distortion of a medium, from its columns `distortion` (and `severity`, `level`).

    Args:
        style: "vital" asks nothing and answers "severity kind"; "vqa2" asks, and answers with one of its
            thirteen names; a column that holds such a name already is taken as it is.
        unseen: whether what changes nothing has a sample too.

    Raises:
        ValueError: for another style.
    """

    def __init__(self, *, style: str = "vital", unseen: bool = False) -> None:
        if style not in STYLES:
            raise ValueError(f"style {style!r}: choose one of {', '.join(STYLES)}")
        self.style = style
        self.unseen = unseen

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Built:
        """One sample, none where there is no distortion or it has no name in the style."""
        kind = sample.columns.get("distortion")
        if not kind:
            return Built.rejected("no distortion is known")
        if sample.columns.get("severity") == UNSEEN and not self.unseen:
            return Built.rejected("the distortion changes nothing", str(kind))
        if self.style == "vital":
            severity = sample.columns.get("severity", "")
            answer = f"{severity} {name_of(str(kind))}".strip()
            return Built([derive(sample, TASK, task=TASK, question="", answer=answer)])
        name = vqa2_name(str(kind), sample.columns.get("level"))
        if name is None:
            return Built.rejected("the distortion has no name in VQA²", str(kind))
        question = draw(RECOGNITION_QUESTIONS, rng, kind=kind_word(sample))
        return Built([derive(sample, TASK, task=TASK, question=question, answer=name)])


def name_of(kind: str) -> str:
    """A kind of distortion in words.

    >>> name_of("white_noise"), name_of("h264")
    ('white noise', 'H264 compression')
    """
    return NAMES.get(kind, kind.replace("_", " "))


def names_of(kind: str) -> set[str]:
    """All names by which a kind of distortion may go.

    >>> sorted(names_of("contrast"))
    ['contrast change', 'high contrast', 'low contrast']
    """
    others = VQA2_NAMES.get(kind, ())
    return {name_of(kind), *([others] if isinstance(others, str) else others)} - {""}


def vqa2_name(kind: str, level: object = None) -> str | None:
    """Which of VQA²'s thirteen names a kind has, None if none.

    >>> vqa2_name("contrast", 5), vqa2_name("noise"), vqa2_name("jitter")
    ('low contrast', 'noise', None)
    """
    if kind in SPATIAL + MOTION:
        return kind
    name = VQA2_NAMES.get(kind)
    if isinstance(name, tuple):
        name = name[level - 1] if isinstance(level, int) and 1 <= level <= len(name) else None
    return name or None
