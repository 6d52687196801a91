"""The one place that samples frames from video files.

decord reads the keyframes by index wherever its answer can be trusted; PyAV, decoding from the first frame,
reads the rest. The packets decide: decord silently returns other frames than asked for from open groups of
pictures and from containers without presentation times, and it never mirrors. Damage that a decoder conceals
goes unnoticed.
Refuses to know about resizing, models and labels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from os import fspath

import av
import decord
import numpy as np
from numpy.typing import NDArray

from vqathinker.media.container import Orientation, Stream, StrPath, probe, video_stream
from vqathinker.media.container import VideoError as VideoError
from vqathinker.types import IndexArray

Frames = NDArray[np.uint8]
Resize = Callable[[Frames], Frames]
Span = tuple[int, int | None]  # first frame and the one after the last, None for the video's end
WHOLE: Span = (0, None)

logger = logging.getLogger(__name__)
decord.logging.set_level(decord.logging.QUIET)
_repeating: set[str] = set()


@dataclass(frozen=True, eq=False)
class Clip:
    """The keyframes of one video.

    Attributes:
        frames: (T, H, W, 3) RGB, upright as a player shows it.
        indices: (T,) positions of the frames in the file, from 0.
        num_frames: frames in the file.
        fps: average frames per second, NaN where the file does not say.
        path: the file.
    """

    frames: Frames
    indices: IndexArray
    num_frames: int
    fps: float
    path: str


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


def orient(frames: Frames, orientation: Orientation) -> Frames:
    """Turn and mirror frames the way the file asks.

    Args:
        frames: (T, H, W, 3).
        orientation: a, b, c, d of the display matrix, of which a point (x, y) becomes (a·x + c·y, b·x + d·y);
            other angles than quarter turns count as the nearest one.

    Returns:
        (T, H, W, 3), or (T, W, H, 3) after a quarter turn.
    """
    a, b, c, d = orientation
    turned = abs(b) > abs(a)
    if turned:
        frames = frames.swapaxes(1, 2)
    horizontal, vertical = (c, b) if turned else (a, d)
    if horizontal < 0:
        frames = frames[:, :, ::-1]
    if vertical < 0:
        frames = frames[:, ::-1]
    return np.ascontiguousarray(frames)


def read_keyframes(
    path: StrPath, num_keyframes: int, *, num_threads: int = 1, resize: Resize | None = None
) -> Clip:
    """Read evenly spread frames of a video.

    Safe in worker threads. A video too short for distinct frames is logged as a warning, once per
    process and file.

    Args:
        path: a video file.
        num_keyframes: T, frames to read.
        num_threads: decoding threads for this file.
        resize: applied to every frame as it is read, so that large ones do not pile up.

    Returns:
        The frames at `keyframe_indices`, upright.

    Raises:
        VideoError: if the file is missing, empty, not a video, cut short, damaged or without frames.
        ValueError: if `num_keyframes` is below one.
    """
    (clip,) = read_spans(path, [WHOLE], num_keyframes, num_threads=num_threads, resize=resize)
    report_repeats(clip)
    return clip


def read_spans(
    path: StrPath,
    spans: Sequence[Span],
    num_keyframes: int,
    *,
    num_threads: int = 1,
    resize: Resize | None = None,
) -> list[Clip]:
    """Read evenly spread frames of each of several parts of a video, in one pass over the file.

    Args:
        path: a video file.
        spans: first frame of each part and the one after its last; parts may overlap.
        num_keyframes: T, frames per part.
        num_threads: decoding threads for this file.
        resize: applied to every frame as it is read.

    Returns:
        A clip for each part; a part beyond the last frame is cut there.

    Raises:
        VideoError: as `read_keyframes` does, or if a part lies behind the last frame.
        ValueError: if `num_keyframes` is below one.
    """
    path = fspath(path)
    try:
        stream = probe(path)
        num_frames = stream.num_packets
        keyframe_indices(num_frames, num_keyframes)
        finish = partial(_finish, orientation=stream.orientation, resize=resize)
        wanted = _spread(path, num_frames, num_keyframes, spans)
        frames = _read_by_index(path, wanted, stream, num_threads, finish) if stream.indexable else None
        if frames is None:
            is_part = all(stop is not None for _, stop in spans)
            frames, num_frames = _pick(path, wanted, num_threads, finish, num_frames if is_part else None)
            if num_frames != stream.num_packets:  # fewer or more frames than its packets told
                wanted = _spread(path, num_frames, num_keyframes, spans)
                frames, _ = _pick(path, wanted, num_threads, finish)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, f"cannot be decoded ({error.strerror or error})") from error
    return [
        Clip(np.stack([frames[i] for i in indices.tolist()]), indices, num_frames, stream.fps, path)
        for indices in wanted
    ]


def read_many(
    paths: Sequence[StrPath], num_keyframes: int, num_workers: int = 4, *, num_threads: int = 1
) -> list[Clip | VideoError]:
    """Read the keyframes of several videos at once.

    Args:
        paths: N video files.
        num_keyframes: T, frames per video.
        num_workers: videos read at the same time.
        num_threads: decoding threads per video.

    Returns:
        N clips in the order of `paths`; the error itself where a file cannot be used.
    """

    def read(path: StrPath) -> Clip | VideoError:
        try:
            return read_keyframes(path, num_keyframes, num_threads=num_threads)
        except VideoError as error:
            return error

    with ThreadPoolExecutor(num_workers, thread_name_prefix="video") as pool:
        return list(pool.map(read, paths))


def _spread(path: str, num_frames: int, num_keyframes: int, spans: Sequence[Span]) -> list[IndexArray]:
    """The (T,) frames to take of each part of a video with `num_frames` frames."""
    wanted = []
    for first, stop in spans:
        last = num_frames if stop is None else min(stop, num_frames)
        if first >= last:
            raise VideoError(path, f"there is no frame {first}, the video has {num_frames}")
        wanted.append(first + keyframe_indices(last - first, num_keyframes))
    return wanted


def _finish(frame: Frames, orientation: Orientation, resize: Resize | None) -> Frames:
    """Turn one (H, W, 3) frame upright and resize it."""
    upright = orient(frame[None], orientation)
    finished: Frames = (upright if resize is None else resize(upright))[0]
    return finished


def _read_by_index(
    path: str, wanted: list[IndexArray], stream: Stream, num_threads: int, finish: Resize
) -> dict[int, Frames] | None:
    """Frames by index with decord, None where it cannot read them or counts other frames than there are."""
    try:
        reader = decord.VideoReader(path, num_threads=num_threads)
        if len(reader) != stream.num_packets:
            return None
        return {i: finish(reader.get_batch([i]).asnumpy()[0]) for i in np.unique(wanted).tolist()}
    except (decord.DECORDError, RuntimeError, AssertionError, UnicodeEncodeError):
        return None  # newer codecs, damage, a name that is no text; PyAV reads it or says what is wrong


def _pick(
    path: str, wanted: list[IndexArray], num_threads: int, finish: Resize, told: int | None = None
) -> tuple[dict[int, Frames], int]:
    """Decode in order; the wanted frames (those that exist) by index, and the number of frames.

    The number is counted, or `told` once all wanted frames are there.
    """
    indices = set(np.unique(wanted).tolist())
    kept: dict[int, Frames] = {}
    sizes: set[tuple[int, int]] = set()
    count = 0
    with closing(_decode(path, num_threads)) as frames:
        for count, frame in enumerate(frames, start=1):
            if count - 1 in indices:
                sizes.add((frame.width, frame.height))
                kept[count - 1] = finish(frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False))
                if told is not None and len(kept) == len(indices):
                    count = told
                    break
    if len(sizes) != 1:
        raise VideoError(
            path, "the frame size changes within the video" if kept else "no frame can be decoded"
        )
    return kept, count


def _decode(path: str, num_threads: int) -> Generator[av.VideoFrame, None, None]:
    """Yield every frame in the order of presentation."""
    with av.open(path) as container:
        stream = video_stream(container, path)
        stream.codec_context.thread_count = num_threads
        yield from container.decode(stream)


def report_repeats(clip: Clip) -> None:
    """Log once per process and file that keyframes repeat."""
    if len(np.unique(clip.indices)) < len(clip.indices) and clip.path not in _repeating:
        _repeating.add(clip.path)
        logger.warning(
            "%s: %d frames for %d keyframes, some are repeated",
            clip.path, clip.num_frames, len(clip.indices),
        )  # fmt: skip
