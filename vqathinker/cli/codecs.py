"""Whether the two decoders read the usual codecs: tiny clips, written and read back in guarded processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vqathinker.cli.finding import Finding
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader

# codec, encoder and container of the clips; H.264 is what nearly every data set holds
CODECS = {
    "H.264": ("libx264", "mp4"),
    "HEVC": ("libx265", "mp4"),
    "VP9": ("libvpx-vp9", "webm"),
    "AV1": ("libsvtav1", "mp4"),
}
NEEDED = "H.264"
SIDE = 64
NUM_FRAMES = 4
TIME_LIMIT = 60.0


def codecs() -> Iterator[Finding]:
    """Yield a finding for each codec."""
    guarded = closing(GuardedReader(num_workers=1, time_limit=TIME_LIMIT))
    with TemporaryDirectory() as folder, guarded as reader:
        for name, (encoder, suffix) in CODECS.items():
            path = str(Path(folder, f"{encoder}.{suffix}"))
            written = reader.read(partial(write_clip, encoder=encoder), path)
            if isinstance(written, VideoError):
                yield Finding(name, "note", f"not tried, {encoder} cannot write a clip: {written.reason}")
                continue
            faults = {"PyAV": reader.read(try_pyav, path), "decord": reader.read(try_decord, path)}
            wrong = {decoder: fault for decoder, fault in faults.items() if fault is not None}
            if not wrong:
                yield Finding(name, "ok", "read by PyAV and decord")
            elif "PyAV" not in wrong:
                yield Finding(name, "ok", "read by PyAV, in order and slower; not by decord")
            else:
                state = "fails" if name == NEEDED else "note"
                way_out = "pip install --force-reinstall av, whose wheels bring their own FFmpeg"
                yield Finding(name, state, f"PyAV cannot read it ({wrong['PyAV']})", way_out)


def write_clip(path: str, encoder: str) -> None:
    """Write a few frames, each a little brighter than the one before."""
    import av

    with av.open(path, "w") as container:
        stream: Any = container.add_stream(encoder, rate=25)
        stream.width = SIDE
        stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for number in range(NUM_FRAMES):
            pixels = np.full((SIDE, SIDE, 3), brightness(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def brightness(number: int) -> int:
    """The grey of a frame: 40, 90, 140, 190."""
    return 40 + 50 * number


def _fault(means: list[float]) -> str | None:
    """What is wrong with the brightness of the frames read, None if nothing."""
    wanted = [brightness(number) for number in range(NUM_FRAMES)]
    is_right = len(means) == NUM_FRAMES and np.allclose(means, wanted, atol=10)
    return None if is_right else f"frames of brightness {[round(mean) for mean in means]}, not {wanted}"


def try_pyav(path: str) -> str | None:
    """What is wrong with PyAV's frames."""
    import av

    with av.open(path) as container:
        return _fault([frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)])


def try_decord(path: str) -> str | None:
    """What is wrong with decord's frames."""
    import decord

    try:
        frames = decord.VideoReader(path).get_batch(range(NUM_FRAMES)).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:  # a codec that its FFmpeg lacks
        return str(error).strip().splitlines()[-1]
    return _fault([frame.mean() for frame in frames])
