"""Distorted copies of video and picture files."""

from __future__ import annotations

import os
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from vqathinker import plugins
from vqathinker.distortions import DISTORTIONS, GROUP
from vqathinker.distortions.base import Apply, Distortion
from vqathinker.distortions.local import Spot, begin_locally
from vqathinker.media.container import probe
from vqathinker.media.names import is_image_name
from vqathinker.media.write import rewrite_image, rewrite_video
from vqathinker.seeds import rng_of

VIDEO_SUFFIX = ".mp4"
IMAGE_SUFFIX = ".png"


def distort_file(
    path: str | PathLike[str],
    out: str | PathLike[str],
    distortion: Distortion,
    level: int,
    rng: np.random.Generator,
    *,
    spot: Spot | None = None,
) -> None:
    """Write a distorted copy of a video or a picture; see `media.write` for what is kept.

    A codec that is the distortion encodes the copy itself.

    Args:
        path: of the source.
        out: MP4 for a video, PNG for a picture; its folder is made.
        distortion: what happens to it.
        level: of it.
        rng: draws what is drawn.
        spot: where and when alone; everywhere if omitted.

    Raises:
        VideoError: if the source cannot be read.
        ValueError: if the level does not exist, or the distortion needs more than one frame.
        OSError: if `out` cannot be written.
    """
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    is_image = is_image_name(path)
    if is_image and distortion.needs_time:
        raise ValueError(f"{fspath(path)} is a picture: {type(distortion).__name__} distorts clips alone")
    seconds = np.zeros(1) if is_image or spot is None else probe(fspath(path)).seconds

    def begin(size: tuple[int, int]) -> Apply:
        if spot is None:
            return distortion.begin(level, size, rng)
        return begin_locally(distortion, level, spot.place(size, seconds), size, rng)

    if is_image:
        rewrite_image(path, out, begin)
        return
    encoding = distortion.encoding(level)
    if encoding is None or spot is not None:
        rewrite_video(path, out, begin)
    else:
        rewrite_video(path, out, lambda size: lambda frames: frames, encoding=encoding)


def suffix_of(path: str | PathLike[str]) -> str:
    """The suffix of a distorted copy."""
    return IMAGE_SUFFIX if is_image_name(path) else VIDEO_SUFFIX


class Fault(NamedTuple):
    """Why there is no copy.

    Attributes:
        reason: in words.
        is_of_disk: whether the next copy would meet it too, not this medium alone.
    """

    reason: str
    is_of_disk: bool = False


def write_copy(
    path: str,
    *,
    out: str,
    item: object,
    level: int,
    seed: tuple[Any, ...],
    spot: Spot | None = None,
    since: float = 0.0,
) -> Fault | None:
    """As `distort_file`, unless the copy is there: the job of a process that decodes and encodes.

    Args:
        path: of the source.
        out: of the copy.
        item: what the distortion is built from, a name or an object of a name with arguments.
        level: of it.
        seed: of `rng_of`.
        spot: as of `distort_file`.
        since: when the settings were chosen; an older copy is of others.

    Returns:
        What is wrong with the copy, if it cannot be written.

    Raises:
        VideoError: if the source cannot be read.
    """
    if os.path.exists(out) and os.path.getmtime(out) >= since:
        return None
    distortion = cast(Distortion, plugins.create(item, DISTORTIONS, group=GROUP))
    try:
        distort_file(path, out, distortion, level, rng_of(*seed), spot=spot)
    except OSError as error:
        return Fault(f"{out}: {error.strerror or error}", is_of_disk=True)
    except ValueError as error:  # such as patches of a picture that is too small
        return Fault(str(error))
    return None
