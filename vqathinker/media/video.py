"""The one place that samples frames from video files.

decord reads the keyframes by index wherever its answer can be trusted; PyAV, decoding from the first frame,
reads the rest. The coded pictures decide, not the container's flags: decord silently returns grey or other
frames than asked for where it starts from a picture that is no start, from open groups of pictures and from
containers without presentation times, and it never mirrors. Damage that a decoder conceals goes unnoticed.
Refuses to know about resizing, models and labels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from os import fspath

import decord
import numpy as np

from vqathinker.media.container import Stream, StrPath, failures_named, local_address, probe
from vqathinker.media.container import VideoError as VideoError
from vqathinker.media.decoding import decode_frames
from vqathinker.media.orientation import Frames, Orientation, orient
from vqathinker.types import IndexArray

# The version of what pixels a file gives: which frames are sampled here, which way up `orient` turns them,
# how `square` resizes them. To be raised with each change of those, so that nothing kept of others is used.
PIXELS_VERSION = 2

Resize = Callable[[Frames], Frames]
Span = tuple[int, int | None]  # first frame and the one after the last, None for the video's end
WHOLE: Span = (0, None)
IN_MEMORY = "<frames>"  # path of a clip that is no file

logger = logging.getLogger(__name__)
decord.logging.set_level(decord.logging.QUIET)


@dataclass(frozen=True, eq=False)
class Clip:
    """The keyframes of one video.

    Attributes:
        frames: (T, H, W, 3) RGB, upright as a player shows it.
        indices: (T,) positions of the frames in the file, from 0.
        num_frames: frames in the file.
        fps: average frames per second, NaN where the file does not say.
        path: the file.
        num_lost: frames that cannot be decoded, as far as the file was read; the one before each is used.
    """

    frames: Frames
    indices: IndexArray
    num_frames: int
    fps: float
    path: str
    num_lost: int = 0


def keyframe_indices(num_frames: int, num_keyframes: int) -> IndexArray:
    """Spread keyframes evenly over a video.

    Frame i of n is int(L/n/2 + round(L/n·i)), L the last index, halves rounded to even as numpy does (the
    sampling of InternVL's and the paper's published inference code).

    Args:
        num_frames: frames in the video.
        num_keyframes: n, frames to take.

    Returns:
        (n,) indices that never decrease and never pass L; some repeat where the video is short.

    Raises:
        ValueError: if either number is below one.

    >>> keyframe_indices(240, 6)
    array([ 19,  59,  99, 139, 178, 218])
    """
    if num_frames < 1 or num_keyframes < 1:
        raise ValueError(f"cannot take {num_keyframes} keyframes of {num_frames} frames")
    step = (num_frames - 1) / num_keyframes
    return (step / 2 + np.round(step * np.arange(num_keyframes))).astype(np.int64)


def read_keyframes(path: StrPath, num_keyframes: int, *, resize: Resize | None = None) -> Clip:
    """Read evenly spread frames of a video.

    Safe in worker threads. A video too short for distinct frames, or with frames that cannot be decoded, is
    logged as a warning, once per process, file and fault.

    Args:
        path: a video file.
        num_keyframes: T, frames to read.
        resize: applied to every frame as it is read, so that large ones do not pile up.

    Returns:
        The frames at `keyframe_indices`, upright.

    Raises:
        VideoError: if the file is missing, empty, not a video, cut short, without frames, or so damaged that
            more than a tenth of them is lost.
        ValueError: if `num_keyframes` is below one.
    """
    (clip,) = read_spans(path, [WHOLE], num_keyframes, resize=resize)
    warn_of_faults(clip)
    return clip


def read_spans(
    path: StrPath,
    spans: Sequence[Span],
    num_keyframes: int,
    *,
    num_frames: int | None = None,
    resize: Resize | None = None,
) -> list[Clip]:
    """Read evenly spread frames of each of several parts of a video, in one pass over the file.

    Args:
        path: a video file.
        spans: first frame of each part and the one after its last; parts may overlap.
        num_keyframes: T, frames per part.
        num_frames: frames of the file, where they were counted (`windows.find_windows`).
        resize: applied to every frame as it is read.

    Returns:
        A clip for each part; a part beyond the last frame is cut there.

    Raises:
        VideoError: as `read_keyframes` does, or if a part lies behind the last frame.
        ValueError: if `num_keyframes` is below one.
    """
    path = fspath(path)
    keyframe_indices(1, num_keyframes)
    stream = probe(path)
    told = num_frames or stream.num_packets
    wanted = _spread(path, told, num_keyframes, spans)
    with failures_named(path):
        finish = partial(_finish, orientation=stream.orientation, resize=resize)
        frames = _read_by_index(path, wanted, stream, finish) if stream.indexable else None
        num_lost = 0
        if frames is None:
            decode = partial(decode_frames, path, finish=finish)
            decoded = decode(wanted=_all(wanted), times=stream.times, num_frames=num_frames)
            if decoded.num_frames != told:  # fewer or more frames than packets
                told = decoded.num_frames
                wanted = _spread(path, told, num_keyframes, spans)
                decoded = decode(wanted=_all(wanted), num_frames=told)
            frames = decoded.frames
            num_lost = decoded.num_lost
    return [
        Clip(np.stack([frames[i] for i in indices.tolist()]), indices, told, stream.fps, path, num_lost)
        for indices in wanted
    ]


def _spread(path: str, num_frames: int, num_keyframes: int, spans: Sequence[Span]) -> list[IndexArray]:
    """The (T,) frames to take of each part of a video with `num_frames` frames."""
    wanted = []
    for first, stop in spans:
        last = num_frames if stop is None else min(stop, num_frames)
        if first >= last:
            raise VideoError(path, f"there is no frame {first}, the video has {num_frames}")
        wanted.append(first + keyframe_indices(last - first, num_keyframes))
    return wanted


def _all(wanted: list[IndexArray]) -> set[int]:
    return {int(i) for i in np.unique(wanted)}


def _finish(frame: Frames, orientation: Orientation, resize: Resize | None) -> Frames:
    """Turn one (H, W, 3) frame upright and resize it."""
    upright = orient(frame[None], orientation)
    finished: Frames = (upright if resize is None else resize(upright))[0]
    return finished


def _read_by_index(
    path: str, wanted: list[IndexArray], stream: Stream, finish: Resize
) -> dict[int, Frames] | None:
    """Frames by index with decord, None where it cannot read them or sees other starts than there are."""
    try:
        reader = decord.VideoReader(local_address(path), num_threads=1)
        if len(reader) != stream.num_packets or stream.starts != set(reader.get_key_indices()):
            return None
        return {i: finish(reader.get_batch([i]).asnumpy()[0]) for i in sorted(_all(wanted))}
    except (decord.DECORDError, RuntimeError, AssertionError, UnicodeEncodeError):
        return None  # newer codecs, damage, a name that is no text; PyAV reads it or says what is wrong


def clip_of(frames: Frames, num_keyframes: int) -> Clip:
    """Evenly spread frames of a video in memory.

    Args:
        frames: (T, H, W, 3) RGB.
        num_keyframes: frames to take.

    Raises:
        ValueError: if it is no such array of uint8.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(f"frames of {frames.dtype} {frames.shape}: expected uint8 (T, H, W, 3), RGB")
    indices = keyframe_indices(len(frames), num_keyframes)
    return Clip(frames[indices], indices, len(frames), math.nan, IN_MEMORY)


def warn_of_faults(clip: Clip) -> None:
    """Log that keyframes repeat or frames are lost, once per process, file and fault."""
    if len(np.unique(clip.indices)) < len(clip.indices):
        numbers = f"{clip.num_frames} frames for {len(clip.indices)} keyframes"
        _warn(f"{clip.path}: {numbers}, some are repeated")
    if clip.num_lost:
        _warn(f"{clip.path}: {clip.num_lost} frames cannot be decoded; the rest is used")


@cache
def _warn(line: str) -> None:
    logger.warning("%s", line)
