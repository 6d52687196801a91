"""Single pictures, read as clips of one frame."""

from __future__ import annotations

import math
from os import fspath

import numpy as np
from PIL import Image, ImageOps

from vqathinker.media.container import StrPath, VideoError
from vqathinker.media.names import missing_reason
from vqathinker.media.video import Clip, Resize


def read_image(path: StrPath, *, resize: Resize | None = None) -> Clip:
    """Read a picture, upright as its file says, in RGB.

    Args:
        path: a file that Pillow reads.
        resize: applied to the picture.

    Raises:
        VideoError: if it is missing, no picture, or one whose white is not known.
    """
    path = fspath(path)
    try:
        with Image.open(path) as file:
            picture = np.asarray(_as_rgb(ImageOps.exif_transpose(file)))
    except FileNotFoundError:
        raise VideoError(path, missing_reason(path)) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises all
        raise VideoError(path, f"it cannot be read as a picture ({error})") from error
    frame = picture if resize is None else resize(picture[None])[0]
    return Clip(frame[None], np.zeros(1, dtype=np.int64), 1, math.nan, path)


def _as_rgb(picture: Image.Image) -> Image.Image:
    """A picture in 8 bits and three channels; of 16 bits the higher half counts, where Pillow would clip.

    Raises:
        ValueError: if its values are whole numbers of 32 bits, or fractions.
    """
    if picture.mode in {"I", "F"}:
        raise ValueError(f"what is white in mode {picture.mode} is not known; write it with 8 or 16 bits")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture, dtype=np.uint16) >> 8).astype(np.uint8))
    return picture.convert("RGB")
