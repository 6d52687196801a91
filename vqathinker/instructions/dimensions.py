"""Fourteen dimensions of quality, of Score2Instruct's kind (arXiv 2506.21011).

Thirteen are the axes of MaxWell (arXiv 2307.14021); the fourteenth, flicker, is named by the paper alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from vqathinker.opinions import level_index
from vqathinker.scale import WORDS

TECHNICAL = "technical"
AESTHETIC = "aesthetic"


@dataclass(frozen=True)
class Dimension:
    """One dimension.

    Attributes:
        title: its name in a sentence.
        definition: what stands for the name, so that a model learns what is meant.
        good: what follows where it is good.
        bad: what follows where it is not.
        group: technical or aesthetic.
        is_plural: whether the definition is one of several things.
    """

    title: str
    definition: str
    good: str
    bad: str
    group: str = TECHNICAL
    is_plural: bool = False


DIMENSIONS: dict[str, Dimension] = {
    "sharpness": Dimension(
        "sharpness", "the crispness of edges and fine detail",
        "so texture stays visible", "so texture is lost",
    ),
    "focus": Dimension(
        "focus", "the focus on what the picture is about",
        "so the subject stands out", "so the subject melts into what is around it",
    ),
    "noise": Dimension(
        "freedom from noise", "the cleanness of even areas",
        "without grain", "with grain that moves over them",
    ),
    "motion_blur": Dimension(
        "clarity of motion", "the clarity of what moves",
        "so movements are easy to follow", "so movements smear",
    ),
    "stability": Dimension(
        "stability", "the steadiness of the camera",
        "which is pleasant to watch", "which makes it tiring to watch",
    ),
    "exposure": Dimension(
        "exposure", "the exposure to light",
        "so both shadows and highlights keep their detail", "so shadows or highlights lose their detail",
    ),
    "compression": Dimension(
        "freedom from compression artefacts", "the picture's likeness to an uncompressed one",
        "without blocks or ringing", "with blocks or ringing around edges",
    ),
    "fluency": Dimension(
        "fluency", "the smoothness of playback",
        "without pauses or jumps", "with pauses or jumps",
    ),
    "flicker": Dimension(
        "freedom from flicker", "the evenness of brightness from frame to frame",
        "so nothing flickers", "so the picture flickers",
    ),
    "content": Dimension(
        "content", "the appeal of what is shown",
        "which holds attention", "which hardly holds attention", AESTHETIC,
    ),
    "composition": Dimension(
        "composition", "the arrangement within the frame",
        "which leads the eye", "which leaves the eye without a hold", AESTHETIC,
    ),
    "colour": Dimension(
        "colour", "the colours",
        "which look rich and natural", "which look faded or unnatural", AESTHETIC, is_plural=True,
    ),
    "lighting": Dimension(
        "lighting", "the play of light and shade",
        "which gives depth", "which leaves the scene flat or gloomy", AESTHETIC,
    ),
    "camera_trajectory": Dimension(
        "camera trajectory", "the movement of the camera through the scene",
        "which follows an intention", "which follows no intention", AESTHETIC,
    ),
}  # fmt: skip
# which dimension each measure speaks of (`opinions.measures`, more is better)
OF_MEASURES = {
    "blur": "sharpness",
    "noise": "noise",
    "blockiness": "compression",
    "flicker": "flicker",
    "colourfulness": "colour",
    "contrast": "lighting",
}


def rate(share: float) -> str:
    """The word of a share from 0 to 1, in five equal intervals.

    >>> rate(0.0), rate(0.55), rate(1.0)
    ('bad', 'fair', 'excellent')
    """
    return WORDS[level_index(share, 0, 1)]
