"""What the name of a file tells: whether it is a video, a picture, or raw frames."""

from __future__ import annotations

import os

from vqathinker.samples import IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "3g2", "3gp", "asf", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts",
        "mxf", "ogv", "qt", "ts", "vob", "webm", "wmv", "y4m",
    )
)  # fmt: skip
RAW_SUFFIXES = frozenset({".yuv", ".rgb"})  # frames without a header; no file to read, but a name of a video
RAW_HINT = (
    "raw frames, without a header that tells their size and format; wrap them: "
    "ffmpeg -f rawvideo -pix_fmt yuv420p -s WIDTHxHEIGHT -r FPS -i clip.yuv clip.y4m"
)


def stem(name: str) -> str:
    """Return the last part of a name without a video's extension.

    >>> stem("yfcc-batch1/722.mp4"), stem("ia/v.1")
    ('722', 'v.1')
    """
    base, suffix = os.path.splitext(os.path.basename(name))
    return base if has_video_suffix(name) else base + suffix


def has_video_suffix(name: str | os.PathLike[str]) -> bool:
    """Whether a name ends as a video file's does, raw frames included.

    >>> has_video_suffix("a.MTS"), has_video_suffix("pa/pa2_25fps.yuv"), has_video_suffix("ia/v.1")
    (True, True, False)
    """
    return is_video_name(name) or is_raw(name)


def is_video_name(name: str | os.PathLike[str]) -> bool:
    """Whether a name has the suffix of a video file that can be read."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_image_name(name: str | os.PathLike[str]) -> bool:
    """Whether a name has the suffix of a picture."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_raw(name: str | os.PathLike[str]) -> bool:
    """Whether a name has the suffix of raw frames."""
    return os.path.splitext(name)[1].lower() in RAW_SUFFIXES


def missing_reason(path: str | os.PathLike[str]) -> str:
    """Say that a file is not there, and of a link where it leads."""
    return f"a link to {os.readlink(path)}, which is not there" if os.path.islink(path) else "no such file"
