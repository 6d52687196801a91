"""Which way up a file's frames are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Orientation = tuple[int, int, int, int]

IDENTITY = (1, 0, 0, 1)
NUM_TYPES = 64  # more kinds of side data than FFmpeg has


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
    turned = is_turned(orientation)
    if turned:
        frames = frames.swapaxes(1, 2)
    horizontal, vertical = (c, b) if turned else (a, d)
    if horizontal < 0:
        frames = frames[:, :, ::-1]
    if vertical < 0:
        frames = frames[:, ::-1]
    return np.ascontiguousarray(frames)


def is_turned(orientation: Orientation) -> bool:
    """Whether width and height change places."""
    a, b, _, _ = orientation
    return abs(b) > abs(a)


def orientation_of(frame: av.VideoFrame, stream: av.VideoStream) -> Orientation:
    """The rotating part of a frame's display matrix in whole numbers, the identity without one."""
    matrix = _side_data(frame, stream).get("DISPLAYMATRIX")
    if matrix is None:
        return IDENTITY
    a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5] / 2**16  # 3 x 3, 16.16 fixed point
    return round(a), round(b), round(c), round(d)


def _side_data(frame: av.VideoFrame, stream: av.VideoStream) -> Mapping[str, Any]:
    """What comes with a frame beside its pixels, kinds that PyAV has no name for left out."""
    try:
        return frame.side_data
    except ValueError:  # PyAV's answer to a kind without a name, such as a camera's Exif block
        return _named_only(frame, stream).side_data


def _named_only(frame: av.VideoFrame, stream: av.VideoStream) -> av.VideoFrame:
    """The frame without the side data that PyAV has no name for."""
    graph = av.filter.Graph()
    last = graph.add_buffer(template=stream)
    for kind in sorted(set(range(NUM_TYPES)) - {kind.value for kind in Type}):
        remover = graph.add("sidedata", f"mode=delete:type={kind}")
        last.link_to(remover)
        last = remover
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    graph.push(frame)
    named = graph.pull()
    assert isinstance(named, av.VideoFrame)
    return named
