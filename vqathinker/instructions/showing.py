"""Media as pictures in a question to a language model."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.medium import read_medium
from vqathinker.samples import Media

NUM_FRAMES = 8
LONGER_SIDE = 512  # pixels of a frame that is shown, at most
QUALITY = 90  # of its JPEG

Show = Callable[[Sequence[Media]], tuple[bytes, ...]]


class Shower:
    """Shows media by some of their frames, as JPEG; safe in threads.

    Args:
        locate: the path of a medium's file.
        reader: reads them in guarded processes.
        num_frames: of a video.
    """

    def __init__(
        self, locate: Callable[[Media], str], reader: GuardedReader, num_frames: int = NUM_FRAMES
    ) -> None:
        self.locate = locate
        self.reader = reader
        self.num_frames = num_frames

    def __call__(self, media: Sequence[Media]) -> tuple[bytes, ...]:
        """The pictures of some media, one after the other.

        Raises:
            VideoError: if a file cannot be read.
        """
        pictures: list[bytes] = []
        for medium in media:
            clip = self.reader.read(
                partial(read_medium, num_keyframes=self.num_frames, resize=shrink), self.locate(medium)
            )
            if isinstance(clip, VideoError):
                raise clip
            pictures += [_jpeg(frame) for frame in clip.frames]
        return tuple(pictures)


def shrink(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3), none of whose sides is longer than can be shown."""
    height, width = frames.shape[1:3]
    scale = LONGER_SIDE / max(height, width)
    if scale >= 1:
        return frames
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]).astype(
        np.uint8
    )


def _jpeg(frame: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "JPEG", quality=QUALITY)
    return content.getvalue()
