"""Distorted copies of video and picture files."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

import numpy as np

from vqathinker.distortions.base import Distortion
from vqathinker.media.names import is_image_name
from vqathinker.media.write import rewrite_image, rewrite_video

VIDEO_SUFFIX = ".mp4"
IMAGE_SUFFIX = ".png"


def distort_file(
    path: str | PathLike[str],
    out: str | PathLike[str],
    distortion: Distortion,
    level: int,
    rng: np.random.Generator,
) -> None:
    """Write a distorted copy of a video or a picture; see `media.write` for what is kept.

    A codec that is the distortion encodes the copy itself.

    Args:
        path: of the source.
        out: MP4 for a video, PNG for a picture; its folder is made.
        distortion: what happens to it.
        level: of it.
        rng: draws what is drawn.

    Raises:
        VideoError: if the source cannot be read.
        ValueError: if the level does not exist, or the distortion needs more than one frame.
        OSError: if `out` cannot be written.
    """
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    if not is_image_name(path):
        encoding = distortion.encoding(level)
        if encoding is not None:
            rewrite_video(path, out, lambda size: lambda frames: frames, encoding=encoding)
        else:
            rewrite_video(path, out, lambda size: distortion.begin(level, size, rng))
        return
    if distortion.needs_time:
        raise ValueError(f"{fspath(path)} is a picture: {type(distortion).__name__} distorts clips alone")
    rewrite_image(path, out, lambda size: distortion.begin(level, size, rng))


def suffix_of(path: str | PathLike[str]) -> str:
    """The suffix of a distorted copy."""
    return IMAGE_SUFFIX if is_image_name(path) else VIDEO_SUFFIX
