"""What is to be scored: found by name, and read as clips, whole or in windows."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqathinker.media.clips import iter_clips
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.search import find_videos, is_pattern
from vqathinker.media.square import square
from vqathinker.media.video import Clip, clip_of, read_spans
from vqathinker.media.windows import find_windows
from vqathinker.rollout.answer import Viewing
from vqathinker.types import FrameSetting

Source = str | os.PathLike[str] | NDArray[np.uint8]
Sources = Source | VideoError | Iterable[Source | VideoError]
SINGLE = (str, os.PathLike, np.ndarray, VideoError)
Media = Sequence[tuple[Sequence[str], Sequence[str | None]]]
WINDOWS_PER_JOB = 4  # read in one pass; also what bounds the memory of a job's frames


def find_sources(sources: Sources, *, expand: bool = True) -> list[Source | VideoError]:
    """What is to be scored, one after the other: paths of files, and arrays of frames.

    Args:
        sources: files, folders, patterns and arrays of frames, one or several.
        expand: False takes every path as the name of one file.

    Raises:
        TypeError: if a source is none of these.
    """
    are_several = isinstance(sources, Iterable) and not isinstance(sources, SINGLE)
    found: list[Source | VideoError] = []
    for source in sources if are_several else [sources]:  # type: ignore[union-attr]
        if not isinstance(source, SINGLE):
            raise TypeError(
                f"a {type(source).__name__} is no video: give paths, or uint8 arrays (T, H, W, 3)"
            )
        if not isinstance(source, str | os.PathLike):
            found.append(source)
        elif expand:
            found += find_videos([os.fspath(source)])
        else:
            found.append(os.fspath(source))
    return found


def is_single(source: Source | Sequence[Source]) -> bool:
    """Whether a source is one video: an array, or the name of one file, whether there is one or not."""
    if isinstance(source, np.ndarray):
        return True
    if not isinstance(source, str | os.PathLike):
        return False
    path = os.fspath(source)
    return not os.path.isdir(path) and not is_pattern(path)


@dataclass(frozen=True)
class Part(Viewing):
    """What is shown and asked, and the seconds of the video that it stands for."""

    start: float = 0.0
    end: float = math.nan

    def seen(self, size: int, seconds: float) -> dict[str, Any]:
        """The attributes of `Seen`.

        Args:
            size: of the frames.
            seconds: that the answer took.
        """
        clip = self.error or self.clips[0]
        span = {"start": self.start, "end": self.end, "seconds": seconds}
        if isinstance(clip, VideoError):
            return {"path": clip.path, "error": clip.reason, **span}
        return {
            "path": clip.path,
            "indices": tuple(clip.indices.tolist()),
            "num_frames": clip.num_frames,
            "num_lost": clip.num_lost,
            "fps": clip.fps,
            "size": size,
            **span,
        }


def read_parts(
    sources: Sequence[Source | VideoError],
    questions: Sequence[str | None],
    reader: GuardedReader,
    setting: FrameSetting,
    ahead: int,
) -> Iterator[Part]:
    """Read the keyframes of every source, in order, those of files in the reader's processes.

    Frames from files arrive at the size that the model sees.
    """
    files = [os.fspath(source) for source in sources if isinstance(source, str | os.PathLike)]
    clips = iter_clips(reader, files, setting, ahead)
    for source, question in zip(sources, questions, strict=True):
        if isinstance(source, VideoError):
            yield Part((source,), (question,))
        elif not isinstance(source, str | os.PathLike):
            yield Part((clip_of(source, setting.num_frames),), (question,))
        else:
            clip = next(clips)
            seconds = math.nan if isinstance(clip, VideoError) else clip.num_frames / clip.fps
            yield Part((clip,), (question,), end=seconds)


def read_windows(
    path: str, reader: GuardedReader, setting: FrameSetting, length: float, stride: float
) -> Iterator[Part]:
    """Read the windows of a file, in order."""
    windows = reader.read(partial(find_windows, length=length, stride=stride), path)
    if isinstance(windows, VideoError):
        yield Part((windows,))
        return
    groups = [windows[i : i + WINDOWS_PER_JOB] for i in range(0, len(windows), WINDOWS_PER_JOB)]
    num_frames = windows[-1].stop  # the last window ends with the video
    jobs = [_job(setting, [(w.first, w.stop) for w in group], num_frames) for group in groups]
    answers = reader.run(((job, path) for job in jobs), ahead=reader.num_workers)
    for group, answer in zip(groups, answers, strict=True):
        for place, window in enumerate(group):
            clip = answer if isinstance(answer, VideoError) else answer[place]
            yield Part((clip,), start=window.start, end=window.end)


def _job(setting: FrameSetting, spans: list[Any], num_frames: int) -> partial[list[Clip]]:
    resize = partial(square, size=setting.size)
    number = setting.num_frames
    return partial(read_spans, spans=spans, num_keyframes=number, num_frames=num_frames, resize=resize)


def read_media(
    media: Media, reader: GuardedReader, setting: FrameSetting, batch_size: int, ahead: int
) -> Iterator[list[Part]]:
    """Read media that are asked about, in batches of about as many questions as are answered at a time.

    The questions of one medium stay together. A file that is shown several times in a batch is read once.
    """
    batches = list(_batches_of_questions(media, batch_size))
    files = [list(dict.fromkeys(path for shown, _ in batch for path in shown)) for batch in batches]
    clips = iter_clips(reader, itertools.chain(*files), setting, ahead)
    for batch, paths in zip(batches, files, strict=True):
        read = {path: next(clips) for path in paths}
        yield [Part(tuple(read[path] for path in shown), tuple(asked)) for shown, asked in batch]


def _batches_of_questions(media: Media, batch_size: int) -> Iterator[Media]:
    start = 0
    number = 0
    for place, (_, asked) in enumerate(media, 1):
        number += len(asked)
        if number >= batch_size:
            yield media[start:place]
            start = place
            number = 0
    if start < len(media):
        yield media[start:]
