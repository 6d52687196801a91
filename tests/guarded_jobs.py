"""Jobs for `test_guarded`: a module of their own, since the reading processes import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from vqathinker.media.container import VideoError
from vqathinker.media.video import Clip, Resize, read_keyframes


def act(path: str) -> str:
    """What a decoder can do, by the file's name."""
    if path.startswith("segfault"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.startswith("exit"):
        os._exit(3)
    if path.startswith("hang"):
        time.sleep(600)
    if path.startswith("refuse"):
        raise VideoError(path, "no such file")
    if path.startswith("surprise"):
        raise OverflowError("too many frames")
    if path.startswith("noise"):
        os.write(1, b"chatter\n")
        os.write(2, b"chatter\n")
    return f"{path} by {os.getpid()}"


def linger(path: str) -> None:
    """Say who reads, then hang."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def mark(path: str) -> str:
    """Leave a trace of having been read."""
    Path(path).touch()
    return path


def decode(path: str, num_keyframes: int, resize: Resize) -> Clip:
    """Read a file, unless its name says what it does to the decoder."""
    act(Path(path).name)
    return read_keyframes(path, num_keyframes, resize=resize)
