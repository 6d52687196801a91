"""The one place that samples frames from video files.

decord reads the keyframes by index wherever its answer can be trusted; PyAV, decoding from the first frame,
reads the rest. The packets decide: decord silently returns other frames than asked for from open groups of
pictures and from containers without presentation times, and it never mirrors. Damage that a decoder conceals
goes unnoticed.
Refuses to know about resizing, models and labels.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from os import fspath

import av
import decord
import numpy as np
from numpy.typing import NDArray

from vqathinker.media.container import Orientation, Stream, StrPath, probe, video_stream
from vqathinker.media.container import VideoError as VideoError
from vqathinker.types import IndexArray

Frames = NDArray[np.uint8]

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


def read_keyframes(path: StrPath, num_keyframes: int, *, num_threads: int = 1) -> Clip:
    """Read evenly spread frames of a video.

    Safe in worker threads. A video too short for distinct frames is logged as a warning, once per
    process and file.

    Args:
        path: a video file.
        num_keyframes: T, frames to read.
        num_threads: decoding threads for this file.

    Returns:
        The frames at `keyframe_indices`, upright.

    Raises:
        VideoError: if the file is missing, empty, not a video, cut short, damaged or without frames.
        ValueError: if `num_keyframes` is below one.
    """
    path = fspath(path)
    try:
        stream = probe(path)
        num_frames = stream.num_packets
        indices = keyframe_indices(num_frames, num_keyframes)
        frames = _read_by_index(path, indices, stream, num_threads) if stream.indexable else None
        if frames is None:
            frames, num_frames = _read_in_order(path, indices, num_frames, num_threads)
            indices = keyframe_indices(num_frames, num_keyframes)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, f"cannot be decoded ({error.strerror or error})") from error
    _report_repeats(path, indices, num_frames)
    return Clip(orient(frames, stream.orientation), indices, num_frames, stream.fps, path)


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


def _read_by_index(path: str, indices: IndexArray, stream: Stream, num_threads: int) -> Frames | None:
    """Read (T, H, W, 3) frames with decord, None where it cannot or counts other frames than there are."""
    try:
        reader = decord.VideoReader(path, num_threads=num_threads)
        if len(reader) != stream.num_packets:
            return None
        frames: Frames = reader.get_batch(indices).asnumpy()
    except (decord.DECORDError, RuntimeError, AssertionError):  # newer codecs, damage; PyAV then says which
        return None
    return frames if len(frames) == len(indices) else None


def _read_in_order(path: str, indices: IndexArray, num_frames: int, num_threads: int) -> tuple[Frames, int]:
    """Decode the whole stream; pick anew if it holds another number of frames than its packets told."""
    frames, count = _pick(path, indices, num_threads)
    if count != num_frames:
        frames, count = _pick(path, keyframe_indices(count, len(indices)), num_threads)
    return frames, count


def _pick(path: str, indices: IndexArray, num_threads: int) -> tuple[Frames, int]:
    """Return the frames at `indices` (those that exist) and the number of frames of the stream."""
    wanted = set(indices.tolist())
    kept: dict[int, Frames] = {}
    count = 0
    with closing(_decode(path, num_threads)) as frames:
        for count, frame in enumerate(frames, start=1):
            if count - 1 in wanted:
                kept[count - 1] = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    if len({frame.shape for frame in kept.values()}) != 1:
        raise VideoError(
            path, "the frame size changes within the video" if kept else "no frame can be decoded"
        )
    return np.stack([kept[index] for index in indices.tolist() if index in kept]), count


def _decode(path: str, num_threads: int) -> Generator[av.VideoFrame, None, None]:
    """Yield every frame in the order of presentation."""
    with av.open(path) as container:
        stream = video_stream(container, path)
        stream.codec_context.thread_count = num_threads
        yield from container.decode(stream)


def _report_repeats(path: str, indices: IndexArray, num_frames: int) -> None:
    """Log once per process and file that keyframes repeat."""
    if len(np.unique(indices)) < len(indices) and path not in _repeating:
        _repeating.add(path)
        logger.warning("%s: %d frames for %d keyframes, some are repeated", path, num_frames, len(indices))
