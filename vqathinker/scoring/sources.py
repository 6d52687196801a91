"""What is to be scored, read as clips: files, frames in memory, windows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from vqathinker.media.clips import iter_clips
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.square import square
from vqathinker.media.video import Clip, clip_of, read_spans
from vqathinker.media.windows import find_windows
from vqathinker.scoring.search import Source
from vqathinker.types import FrameSetting

WINDOWS_PER_JOB = 4  # read in one pass; also what bounds the memory of a job's frames


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
    clips = iter_clips(reader, files, setting, ahead)
    for source in sources:
        if isinstance(source, VideoError):
            yield Part(source)
        elif not isinstance(source, str | os.PathLike):
            yield Part(clip_of(source, setting.num_frames))
        else:
            clip = next(clips)
            seconds = math.nan if isinstance(clip, VideoError) else clip.num_frames / clip.fps
            yield Part(clip, end=seconds)


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
        for place, window in enumerate(group):
            clip = answer if isinstance(answer, VideoError) else answer[place]
            yield Part(clip, window.start, window.end)


def _job(setting: FrameSetting, spans: list[Any], num_frames: int) -> partial[list[Clip]]:
    resize = partial(square, size=setting.size)
    number = setting.num_frames
    return partial(read_spans, spans=spans, num_keyframes=number, num_frames=num_frames, resize=resize)
