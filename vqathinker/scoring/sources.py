"""What people give to be scored, as clips: files, folders, patterns, frames in memory, windows."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqathinker.media.guarded import GuardedReader
from vqathinker.media.matching import VIDEO_SUFFIXES
from vqathinker.media.video import (
    WHOLE,
    Clip,
    VideoError,
    keyframe_indices,
    read_spans,
    report_repeats,
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


def find_videos(paths: Iterable[str]) -> list[str | VideoError]:
    """Replace folders and patterns by the video files in them, in the order of their names.

    Args:
        paths: files, which are kept whatever they are; folders, searched to any depth for files with a
            video's suffix; patterns with `*`, `?`, `[` or `**`.

    Returns:
        Paths, and an error for every folder and pattern without a video.
    """
    found: list[str | VideoError] = []
    for path in paths:
        if os.path.isdir(path):
            names = [str(file) for file in Path(path).rglob("*") if _is_video(file)]
            found += sorted(names) or [VideoError(path, "the folder holds no video files")]
        elif glob.has_magic(path) and not os.path.exists(path):
            names = [name for name in glob.glob(path, recursive=True) if os.path.isfile(name)]
            found += sorted(names) or [VideoError(path, "no file matches")]
        else:
            found.append(path)
    return found


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEO_SUFFIXES and not file.name.startswith(".") and file.is_file()


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
    jobs = [_job(setting, [(window.first, window.stop) for window in group]) for group in groups]
    answers = reader.run(((job, path) for job in jobs), ahead=reader.num_workers)
    for group, answer in zip(groups, answers, strict=True):
        if isinstance(answer, VideoError):
            yield from (Part(answer, window.start, window.end) for window in group)
        else:
            yield from map(_window_part, answer, group)


def _job(setting: FrameSetting, spans: list[Any]) -> partial[list[Clip]]:
    from vqathinker.media.square import square  # brings torch, which finding files does without

    resize = partial(square, size=setting.size)
    return partial(read_spans, spans=spans, num_keyframes=setting.num_frames, resize=resize)


def _part(clip: Clip | VideoError) -> Part:
    if isinstance(clip, VideoError):
        return Part(clip)
    report_repeats(clip)  # logged here, since the reading process is silent
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
