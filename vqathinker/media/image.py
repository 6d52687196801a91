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
        VideoError: if it is missing or no picture.
    """
    path = fspath(path)
    try:
        with Image.open(path) as file:
            picture = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except FileNotFoundError:
        raise VideoError(path, missing_reason(path)) from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(path, f"it cannot be read as a picture ({error})") from error
    frame = picture if resize is None else resize(picture[None])[0]
    return Clip(frame[None], np.zeros(1, dtype=np.int64), 1, math.nan, path)
