"""Keyframes at the model's size, decoded in guarded processes: what training and validation read.

A file that crashes or hangs a decoder is a `VideoError` like any other, and costs the run nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from vqathinker.media.guarded import GuardedReader
from vqathinker.media.medium import read_medium
from vqathinker.media.square import square
from vqathinker.media.video import Clip, VideoError, warn_of_faults
from vqathinker.types import FrameSetting


def read_clip(decoders: GuardedReader, path: str, setting: FrameSetting) -> Clip | VideoError:
    """A file's keyframes, resized to the model's square where they are decoded; safe in threads.

    Raises:
        RuntimeError: if no process can be started, or `decoders` are closed meanwhile.
    """
    return _warned(decoders.read(_job(setting), path))


def read_clips(
    decoders: GuardedReader, paths: Iterable[str], setting: FrameSetting
) -> list[Clip | VideoError]:
    """As `read_clip`, of several files at a time, in their order."""
    return list(iter_clips(decoders, paths, setting))


def iter_clips(
    decoders: GuardedReader, paths: Iterable[str], setting: FrameSetting, ahead: int | None = None
) -> Iterator[Clip | VideoError]:
    """As `read_clips`, one after the other; at most `ahead` files are read before they are asked for."""
    yield from map(_warned, decoders.map(_job(setting), paths, ahead=ahead))


def _job(setting: FrameSetting) -> partial[Clip]:
    resize = partial(square, size=setting.size)
    return partial(read_medium, num_keyframes=setting.num_frames, resize=resize)


def _warned(answer: Clip | VideoError) -> Clip | VideoError:
    """The answer, logged here where there is something to say, since the reading process is silent."""
    if isinstance(answer, Clip):
        warn_of_faults(answer)
    return answer
