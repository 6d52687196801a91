"""A video or a picture, by the suffix of its name. Loads no torch: a decoding process starts at once."""

from __future__ import annotations

from typing import NamedTuple

from vqathinker.media.container import probe
from vqathinker.media.image import read_image
from vqathinker.media.names import is_image_name
from vqathinker.media.video import Clip, Resize, read_keyframes


class Look(NamedTuple):
    """What a file holds: the size of its frames, upright, and its length, 0 s for a picture."""

    width: int
    height: int
    seconds: float


def read_medium(path: str, *, num_keyframes: int, resize: Resize | None) -> Clip:
    """The keyframes of a video, or a picture.

    Raises:
        VideoError: if it cannot be read.
    """
    if is_image_name(path):
        return read_image(path, resize=resize)
    return read_keyframes(path, num_keyframes, resize=resize)


def look_at(path: str) -> Look:
    """Read a frame of a file, and how long it is.

    Raises:
        VideoError: if it cannot be read.
    """
    clip = read_medium(path, num_keyframes=1, resize=None)
    height, width = clip.frames.shape[1:3]
    seconds = 0.0 if is_image_name(path) else round(probe(path).end, 3)
    return Look(width, height, seconds)
