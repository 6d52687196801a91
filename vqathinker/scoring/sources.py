"""What is shown and asked, read: whole files, windows of one, media with several questions."""

from __future__ import annotations

import itertools
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
from vqathinker.rollout.answer import Viewing
from vqathinker.scoring.search import Source
from vqathinker.scoring.task import Asked
from vqathinker.types import FrameSetting

WINDOWS_PER_JOB = 4  # read in one pass; also what bounds the memory of a job's frames


@dataclass(frozen=True)
class Part(Viewing):
    """What is shown and asked, as read.

    Attributes:
        start: first second of the video that it stands for.
        end: last second; NaN where the file does not tell its frame rate.
    """

    start: float = 0.0
    end: float = math.nan

    def seen(self, size: int, seconds: float) -> dict[str, Any]:
        """The attributes of `Seen`.

        Args:
            size: side of the frames in pixels.
            seconds: that the answer took.
        """
        found: dict[str, Any] = {"start": self.start, "end": self.end, "seconds": seconds}
        if self.error is not None:
            return found | {"path": self.error.path, "error": self.error.reason}
        clip = self.clips[0]
        assert isinstance(clip, Clip)
        return found | {
            "path": clip.path,
            "indices": tuple(clip.indices.tolist()),
            "num_frames": clip.num_frames,
            "num_lost": clip.num_lost,
            "fps": clip.fps,
            "size": size,
        }


def whole(clips: Sequence[Clip | VideoError], questions: Sequence[str | None]) -> Part:
    """All of what is shown; of two files the first tells the seconds."""
    clip = clips[0]
    seconds = math.nan if isinstance(clip, VideoError) else clip.num_frames / clip.fps
    return Part(tuple(clips), tuple(questions), end=seconds)


def read_parts(
    sources: Sequence[Source | VideoError],
    questions: Sequence[str | None],
    reader: GuardedReader,
    setting: FrameSetting,
    ahead: int,
) -> Iterator[Part]:
    """Read the keyframes of every source, in order, those of files in the reader's processes.

    Frames from files arrive at the size that the model sees.

    Args:
        sources: N of them.
        questions: one about each.
        reader: of files.
        setting: keyframes.
        ahead: files that are read before they are asked for.
    """
    files = [os.fspath(source) for source in sources if isinstance(source, str | os.PathLike)]
    clips = iter_clips(reader, files, setting, ahead)
    for source, question in zip(sources, questions, strict=True):
        if isinstance(source, str | os.PathLike):
            yield whole([next(clips)], [question])
        elif isinstance(source, VideoError):
            yield Part((source,), (question,))
        else:
            yield Part((clip_of(source, setting.num_frames),), (question,))


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
    media: Sequence[Asked], reader: GuardedReader, setting: FrameSetting, batch_size: int, ahead: int
) -> Iterator[list[Part]]:
    """Read media that are asked about, in the batches of `cut_batches`.

    A file that is shown several times in a batch is read once.

    Args:
        media: N of them.
        reader: of files.
        setting: keyframes.
        batch_size: questions that are answered at a time.
        ahead: files that are read before they are asked for.
    """
    cuts = cut_batches([len(asked.questions) for asked in media], batch_size)
    batches = [media[cut] for cut in cuts]
    files = [list(dict.fromkeys(path for asked in batch for path in asked.paths)) for batch in batches]
    clips = iter_clips(reader, itertools.chain(*files), setting, ahead)
    for batch, paths in zip(batches, files, strict=True):
        read = {path: next(clips) for path in paths}
        yield [whole([read[path] for path in asked.paths], asked.questions) for asked in batch]


def cut_batches(numbers: Sequence[int], batch_size: int) -> list[slice]:
    """Where media are cut into batches of `batch_size` questions; the last one of a batch may bring more.

    Whole batches, one after the other, are cut into the same again.

    Args:
        numbers: of questions about each medium.
        batch_size: questions that are answered at a time.

    >>> cut_batches([3, 2, 1, 1], 4)
    [slice(0, 2, None), slice(2, 4, None)]
    """
    batches = []
    start = 0
    number = 0
    for place, more in enumerate(numbers, 1):
        number += more
        if number >= batch_size or place == len(numbers):
            batches.append(slice(start, place))
            start = place
            number = 0
    return batches
