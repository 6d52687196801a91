"""What a distortion is: a change of pixels, drawn once for all frames of a clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from vqathinker.media.write import Encoding
from vqathinker.scale import SEVERITIES, UNSEEN

Frames = NDArray[np.uint8]
Apply = Callable[[Frames], Frames]

TEMPORAL_WORDS = ("mild", "noticeable", "severe")


class Distortion(ABC):
    """Changes the pixels of a clip and keeps its shape.

    Words of the severities, and the levels of KADIS-700k that stand in the classes: VITAL (arXiv 2511.17962),
    KADIS-700k (arXiv 2001.08113). What is drawn at random is drawn once: it is the same for all frames of a
    clip, unless the distortion is one of time.

    Attributes:
        levels: the parameter of each level, the first one's first.
        needs_time: whether it is one of clips alone: of a picture it makes nothing.
        ranks: how much each level damages a clip, in words' positions from 1; equal where two damage alike, 0
            where one changes nothing.
        words: severities, the least first.
    """

    levels: ClassVar[tuple[Any, ...]]
    needs_time: ClassVar[bool] = False
    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 5)
    words: ClassVar[tuple[str, ...]] = SEVERITIES

    def __init__(self, *, stretch: bool = False) -> None:
        """Set the frame of the distortion.

        Args:
            stretch: whether values are stretched to the whole range before and after, as KADIS does.
        """
        self.stretch = stretch

    @property
    def num_levels(self) -> int:
        """How many levels there are; they count from 1."""
        return len(self.levels)

    @property
    def drawn_levels(self) -> tuple[int, ...]:
        """The levels that change something, from the least damage to the most."""
        changing = [level for level in range(1, self.num_levels + 1) if self.ranks[level - 1]]
        return tuple(sorted(changing, key=lambda level: self.ranks[level - 1]))

    def severity(self, level: int) -> str:
        """How much a level damages a clip, in a word."""
        self._parameter(level)
        rank = self.ranks[level - 1]
        return self.words[rank - 1] if rank else UNSEEN

    def __call__(self, frames: Frames, level: int, rng: np.random.Generator) -> Frames:
        """Distort a clip, or a picture as a clip of one frame.

        Args:
            frames: (T, H, W, 3) RGB.
            level: from 1.
            rng: draws what is drawn.

        Returns:
            (T, H, W, 3), the frames given stay as they are.

        Raises:
            ValueError: if these are no frames, or there is no such level.
        """
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
            raise ValueError(f"frames of {frames.dtype} {frames.shape}: expected uint8 (T, H, W, 3), RGB")
        return self.begin(level, (frames.shape[1], frames.shape[2]), rng)(frames)

    def begin(self, level: int, size: tuple[int, int], rng: np.random.Generator) -> Apply:
        """Draw for a clip; the function distorts its frames, all at once or part after part.

        Args:
            level: from 1.
            size: (H, W) of the frames.
            rng: draws what is drawn.

        Raises:
            ValueError: if there is no such level, or the frames are too small.
        """
        apply = self.draw(self._parameter(level), size, rng)
        if not self.stretch:
            return apply
        before = stretching()
        after = stretching()
        return lambda frames: after(apply(before(frames)))

    @abstractmethod
    def draw(self, value: Any, size: tuple[int, int], rng: np.random.Generator) -> Apply:  # noqa: ANN401
        """As `begin`, with the parameter of the level."""

    def encoding(self, level: int) -> Encoding | None:
        """How a video file of this level is encoded, where that is the distortion; None where it is not."""
        self._parameter(level)
        return None

    def _parameter(self, level: int) -> Any:  # noqa: ANN401  as the levels of the class
        if not 1 <= level <= self.num_levels:
            raise ValueError(f"{type(self).__name__} has the levels 1 to {self.num_levels}, not {level}")
        return self.levels[level - 1]


def each_frame(change: Callable[[Frames], NDArray[Any]]) -> Apply:
    """A change of (H, W, 3) pictures as one of clips."""

    def apply(frames: Frames) -> Frames:
        changed = np.empty_like(frames)
        for place, frame in zip(changed, frames, strict=True):
            place[:] = change(frame)
        return changed

    return apply


def by_value(curve: Callable[[NDArray[Any]], NDArray[Any]]) -> Apply:
    """A curve over values in [0, 1], applied to every sample; what leaves the range is cut."""
    return by_table(to_bytes(curve(np.arange(256) / 255)))


def by_table(table: Frames) -> Apply:
    """Each of the 256 values becomes the one at its place of a table."""

    def apply(frames: Frames) -> Frames:
        changed: Frames = cv2.LUT(_as_picture(frames), table).reshape(frames.shape)
        return changed

    return apply


def to_bytes(values: NDArray[Any]) -> Frames:
    """Values in [0, 1] as bytes; those beyond are cut."""
    whole: Frames = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return whole


def to_unit(frame: Frames) -> NDArray[np.float32]:
    """Bytes as values in [0, 1]."""
    return frame.astype(np.float32) / np.float32(255)


def stretching() -> Apply:
    """Stretch a clip so that its least value is 0 and its largest 255; a part that follows as the first."""
    ends: list[tuple[int, int]] = []

    def apply(frames: Frames) -> Frames:
        if not ends:
            ends.append((int(frames.min()), int(frames.max())))
        low, high = ends[0]
        if low == high:
            return frames
        return by_value(lambda values: (values * 255 - low) / (high - low))(frames)

    return apply


def _as_picture(frames: Frames) -> Frames:
    """All frames below one another, samples side by side, as OpenCV takes a picture of one channel."""
    return np.ascontiguousarray(frames).reshape(-1, frames.shape[2] * frames.shape[3])
