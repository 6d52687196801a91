"""What is to be scored, as clips: files, frames in memory, windows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqathinker.media.guarded import GuardedReader
from vqathinker.media.video import (
    WHOLE,
    Clip,
    VideoError,
    keyframe_indices,
    read_spans,
    report,
)
from vqathinker.media.windows import Window, find_windows
from vqathinker.types import FrameSetting

IN_MEMORY = "<frames>"
WINDOWS_PER_JOB = 4  # read in one pass; also what bounds the memory of a job's frames

Source = str | os.PathLike[str] | NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """A clip, or why there is none, and the seconds of the video that it stands for."""

    clip: Clip | VideoError
    start: float = 0.0
    end: float = math.nan


def read_parts(
    sources: Sequence[Source | VideoError], reader: GuardedReader, setting: FrameSetting, ahead: int
) -> Iterator[Part]:
    """Read the keyframes of every source, in order, those of files in the reader's processes.

    Frames from files arrive at the size that the model sees.
    """
    files = [os.fspath(source) for source in sources if isinstance(source, str | os.PathLike)]
    clips = reader.map(_job(setting, [WHOLE]), files, ahead=ahead)
    for source in sources:
        if isinstance(source, VideoError):
            yield Part(source)
        elif isinstance(source, str | os.PathLike):
            answer = next(clips)
            yield _part(answer if isinstance(answer, VideoError) else answer[0])
        else:
            yield _part(_clip_of(source, setting.num_frames))


def read_windows(
    path: str, reader: GuardedReader, setting: FrameSetting, length: float, stride: float
) -> Iterator[Part]:
    """Read the windows of a file, in order."""
    windows = reader.read(partial(find_windows, length=length, stride=stride), path)
    if isinstance(windows, VideoError):
        yield Part(windows)
        return
    groups = [windows[i : i + WINDOWS_PER_JOB] for i in range(0, len(windows), WINDOWS_PER_JOB)]
    num_frames = windows[-1].stop  # the last window ends with the video
    jobs = [_job(setting, [(w.first, w.stop) for w in group], num_frames) for group in groups]
    answers = reader.run(((job, path) for job in jobs), ahead=reader.num_workers)
    for group, answer in zip(groups, answers, strict=True):
        if isinstance(answer, VideoError):
            yield from (Part(answer, window.start, window.end) for window in group)
        else:
            yield from map(_window_part, answer, group)


def _job(setting: FrameSetting, spans: list[Any], num_frames: int | None = None) -> partial[list[Clip]]:
    from vqathinker.media.square import square  # brings torch, which finding files does without

    resize = partial(square, size=setting.size)
    number = setting.num_frames
    return partial(read_spans, spans=spans, num_keyframes=number, num_frames=num_frames, resize=resize)


def _part(clip: Clip | VideoError) -> Part:
    if isinstance(clip, VideoError):
        return Part(clip)
    report(clip)  # logged here, since the reading process is silent
    return Part(clip, end=clip.num_frames / clip.fps)


def _window_part(clip: Clip, window: Window) -> Part:
    return Part(clip, window.start, window.end)


def _clip_of(frames: NDArray[np.uint8], num_keyframes: int) -> Clip:
    """Keyframes of a video in memory.

    Raises:
        ValueError: if it is no array (T, H, W, 3) of uint8.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(f"frames of {frames.dtype} {frames.shape}: expected uint8 (T, H, W, 3), RGB")
    indices = keyframe_indices(len(frames), num_keyframes)
    return Clip(frames[indices], indices, len(frames), math.nan, IN_MEMORY)
