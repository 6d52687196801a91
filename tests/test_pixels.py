"""What pixels a file gives is a version: whoever changes them changes it, and what was kept is not used."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from vqathinker.media.square import square
from vqathinker.media.video import PIXELS_VERSION, read_keyframes

# SHA-256 of the frames read from a lossless clip, by `PIXELS_VERSION` and the degrees to turn it by.
DIGESTS = {
    2: {
        0: "5a8c1a2fb8fe6b2917702a3804a9c49bcdd65f8cb7996d7bbde1e76bdeceaada",
        90: "13412fa3eda79054fd77b6c7b6780d18c6d63f86e40482a0c8f25b1bcc86e7f7",
    },
}
# One row of a picture of 8 x 8 pixels made from 20 x 20, by `PIXELS_VERSION`.
ROWS = {
    2: [106, 111, 106, 122, 132, 106, 159, 145],
}


def write_lossless(path: Path, rotation: int) -> Path:
    """Eleven frames of noise that any machine reads back as they were."""
    rng = np.random.default_rng(7)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "rgb24"
        if rotation:
            stream.set_display_rotation(rotation)
        for _ in range(11):
            noise = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("rotation", [0, 90])
def test_pixels_of_a_file(rotation: int, tmp_path: Path) -> None:
    frames = read_keyframes(write_lossless(tmp_path / "noise.mov", rotation), 4).frames
    assert frames.shape == ((4, 24, 16, 3) if rotation else (4, 16, 24, 3))
    told = f"other pixels than before: raise PIXELS_VERSION={PIXELS_VERSION} and note the digest here"
    assert hashlib.sha256(frames.tobytes()).hexdigest() == DIGESTS[PIXELS_VERSION][rotation], told


def test_pixels_of_the_square() -> None:
    """Within one level, by which processors may round otherwise."""
    noise = np.random.default_rng(7).integers(0, 256, (1, 20, 20, 3), dtype=np.uint8)
    row = square(noise, 8)[0, 3, :, 1].astype(int)
    told = f"other pixels than before: raise PIXELS_VERSION={PIXELS_VERSION} and note the row here"
    assert row == pytest.approx(ROWS[PIXELS_VERSION], abs=1), told
