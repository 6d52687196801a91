"""A video that is written again keeps all but its pixels."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from conftest import decode_all, frame_number, rewrap
from PIL import Image

from vqathinker.distortions import DISTORTIONS
from vqathinker.distortions.copies import distort_file
from vqathinker.media.container import VideoError, probe
from vqathinker.media.video import read_keyframes
from vqathinker.media.write import Encoding, rewrite_image, rewrite_video

MakeVideo = Callable[..., Path]
EXACT = Encoding("libx264", {"crf": "0", "preset": "ultrafast"})


def unchanged(size: tuple[int, int]) -> Callable[[Any], Any]:
    return lambda frames: frames


def inverted(size: tuple[int, int]) -> Callable[[Any], Any]:
    return lambda frames: 255 - frames


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((one.astype(float) - other) ** 2).mean()))


def test_frames_times_and_size_stay(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 37, fps=30)
    assert rewrite_video(path, tmp_path / "b.mp4", unchanged) == 37
    frames = decode_all(tmp_path / "b.mp4", codec="h264")
    assert [frame_number(frame) for frame in frames] == list(range(37))
    assert psnr(frames, decode_all(path)) > 38
    old, new = probe(str(path)), probe(str(tmp_path / "b.mp4"))
    np.testing.assert_allclose(new.seconds, old.seconds)
    assert (new.fps, new.end) == (old.fps, pytest.approx(old.end))


def test_the_change_sees_every_frame_once_in_parts(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 19)
    seen: list[int] = []
    sizes = []

    def begin(size: tuple[int, int]) -> Callable[[Any], Any]:
        sizes.append(size)

        def change(frames: np.ndarray) -> np.ndarray:
            assert len(frames) <= 8
            seen.extend(frame_number(frame) for frame in frames)
            return 255 - frames

        return change

    rewrite_video(path, tmp_path / "b.mp4", begin)
    assert (seen, sizes) == (list(range(19)), [(96, 128)])
    assert psnr(255 - decode_all(tmp_path / "b.mp4"), decode_all(path)) > 35


@pytest.mark.parametrize(("rotation", "mirror"), [(90, False), (180, False), (270, True), (0, True)])
def test_a_turned_video_is_upright(
    rotation: int, mirror: bool, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = make_video(tmp_path / "a.mp4", 9, rotation=rotation, mirror=mirror)
    rewrite_video(path, tmp_path / "b.mp4", unchanged)
    old, new = (read_keyframes(name, 4).frames for name in (path, tmp_path / "b.mp4"))
    assert old.shape == new.shape
    assert psnr(old, new) > 38
    assert probe(str(tmp_path / "b.mp4")).orientation == (1, 0, 0, 1)


@pytest.mark.parametrize("size", [(129, 96), (128, 97), (65, 33)])
def test_odd_sides_stay(size: tuple[int, int], make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 5, size, pix_fmt="yuv444p")
    rewrite_video(path, tmp_path / "b.mp4", unchanged)
    assert decode_all(tmp_path / "b.mp4").shape == (5, size[1], size[0], 3)


def colourful(path: Path, pix_fmt: str, matrix: int, target: Colorspace) -> Path:
    """A smooth picture that fills the gamut, of frames that say how their colours are meant."""
    rows, columns = np.mgrid[:64, :96]
    picture = np.stack([2.6 * columns, 4 * rows, 255 - 2.6 * columns], axis=-1).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_primaries = 1
        stream.codec_context.color_trc = 1
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt, dst_colorspace=target)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv444p"])
@pytest.mark.parametrize(
    ("matrix", "target"),
    [(1, Colorspace.ITU709), (5, Colorspace.ITU601), (6, Colorspace.ITU601), (9, Colorspace.BT2020)],
)
def test_colours_stay_what_they_were(pix_fmt: str, matrix: int, target: Colorspace, tmp_path: Path) -> None:
    path = colourful(tmp_path / "a.mp4", pix_fmt, matrix, target)
    rewrite_video(path, tmp_path / "b.mp4", unchanged, encoding=EXACT)
    assert psnr(decode_all(tmp_path / "b.mp4"), decode_all(path)) > 38
    with av.open(str(path)) as old, av.open(str(tmp_path / "b.mp4")) as new:
        one, other = (file.streams.video[0].codec_context for file in (old, new))
        told = ("colorspace", "color_range", "color_primaries", "color_trc")
        assert [getattr(one, name) for name in told] == [getattr(other, name) for name in told]


def test_unequal_frame_times_stay(tmp_path: Path) -> None:
    times = [0, 40, 50, 300, 310, 330, 700]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 30 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    rewrite_video(tmp_path / "a.mkv", tmp_path / "b.mp4", unchanged)
    np.testing.assert_allclose(probe(str(tmp_path / "b.mp4")).seconds, np.array(times) / 1000, atol=1e-3)


def with_sound(path: Path, codec: str, seconds: float = 1.0, rate: int = 48000) -> Path:
    """A second of a moving frame and a tone of 440 Hz."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound: Any = container.add_stream(codec, rate=rate, layout="mono")
        for number in range(int(25 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 5 * number, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        tone = np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
        for start in range(0, len(tone), 1024):
            samples = (tone[None, start : start + 1024] * 12000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def heard(path: Path) -> tuple[str, np.ndarray]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        samples = [frame.to_ndarray().astype(np.float64)[0] for frame in container.decode(audio=0)]
        return stream.codec_context.name, np.concatenate(samples)


def pitch(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.argmax(spectrum) * 48000 / len(samples))


@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_sound_is_copied(codec: str, tmp_path: Path) -> None:
    path = with_sound(tmp_path / "a.mkv", codec)
    rewrite_video(path, tmp_path / "b.mp4", inverted)
    name, samples = heard(tmp_path / "b.mp4")
    assert name == codec
    np.testing.assert_array_equal(samples, heard(path)[1])


def test_sound_that_mp4_does_not_hold_is_encoded_again(tmp_path: Path) -> None:
    path = with_sound(tmp_path / "a.mkv", "pcm_s16le")
    rewrite_video(path, tmp_path / "b.mp4", inverted)
    name, samples = heard(tmp_path / "b.mp4")
    assert name == "aac"
    assert len(samples) == pytest.approx(48000, abs=2100)
    assert pitch(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("rate", [192000, 11024, 6000])
def test_sound_of_any_rate(rate: int, tmp_path: Path) -> None:
    path = with_sound(tmp_path / "a.mkv", "pcm_s16le", rate=rate)
    rewrite_video(path, tmp_path / "b.mp4", inverted)
    name, samples = heard(tmp_path / "b.mp4")
    assert name == "aac"
    assert len(samples) > 5000


def test_the_same_bytes_each_time(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 20)
    digests = set()
    for name in ("b.mp4", "c.mp4"):
        rewrite_video(path, tmp_path / name, inverted)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_same_bytes_whatever_was_in_memory(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 20, (96, 80))
    digests = set()
    for filling in ("85", "170"):  # what the C library fills new memory with
        program = (
            "import sys, numpy as np; from vqathinker.distortions import DISTORTIONS; "
            "from vqathinker.distortions.copies import distort_file; "
            "[distort_file(sys.argv[1], f'{sys.argv[2]}{kind}.mp4', DISTORTIONS[kind](), 1, "
            "np.random.default_rng(0)) for kind in ('darken', 'h264')]"
        )
        command = [sys.executable, "-c", program, str(path), str(tmp_path / filling)]
        subprocess.run(command, check=True, env={**os.environ, "MALLOC_PERTURB_": filling})
        copies = sorted(tmp_path.glob(f"{filling}*.mp4"))
        digests.add(tuple(hashlib.sha256(copy.read_bytes()).hexdigest() for copy in copies))
    assert len(digests) == 1


def test_some_lost_frames_are_left_out_and_many_refuse_the_file(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    source = make_video(tmp_path / "intra.mp4", 30, codec="mpeg4", options={"g": "1"})

    def spoilt(lost: set[int]) -> Path:
        def change(index: int, content: bytearray) -> bytearray:
            return bytearray(b"\xff" * len(content)) if index in lost else content

        return rewrap(source, tmp_path / "spoilt.mp4", change=change)

    assert rewrite_video(spoilt({0, 12}), tmp_path / "b.mp4", unchanged) == 28
    numbers = [frame_number(frame) for frame in decode_all(tmp_path / "b.mp4")]
    assert numbers == [number for number in range(30) if number not in {0, 12}]
    with pytest.raises(VideoError, match="5 of 30 frames are lost"):
        rewrite_video(spoilt({3, 4, 5, 6, 7}), tmp_path / "c.mp4", unchanged)
    assert not (tmp_path / "c.mp4").exists()


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_a_file_that_is_no_video_leaves_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.mp4"):
        rewrite_video(tmp_path / "a.mp4", tmp_path / "b.mp4", unchanged)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_full_disk_is_the_new_files_fault(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 60)
    out = tmp_path / "out.mp4"
    program = f"""
import resource, signal
from vqathinker.media.write import rewrite_video
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    rewrite_video({str(path)!r}, {str(out)!r}, lambda size: lambda frames: frames)
except OSError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "out.mp4" in done.stdout
    assert "too large" in done.stdout.lower()
    assert not out.exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_is_named(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 3)
    with pytest.raises(OSError, match="nowhere"):
        rewrite_video(path, tmp_path / "nowhere" / "b.mp4", unchanged)


def test_a_picture(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 43, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    rewrite_image(tmp_path / "a.png", tmp_path / "b.png", inverted)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), 255 - picture)


@pytest.mark.parametrize(("kind", "codec"), [("h264", "h264"), ("h265", "hevc"), ("pixelate", "h264")])
def test_a_codec_is_the_distortion_itself(
    kind: str, codec: str, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = make_video(tmp_path / "a.mp4", 12, options={"crf": "4"})
    distort_file(path, tmp_path / "new" / "b.mp4", DISTORTIONS[kind](), 3, np.random.default_rng(0))
    frames = decode_all(tmp_path / "new" / "b.mp4", codec=codec)
    assert frames.shape == decode_all(path).shape
    assert 15 < psnr(frames, decode_all(path)) < 40


def test_time_is_not_distorted_in_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is a picture"):
        distort_file(
            tmp_path / "a.png", tmp_path / "b.png", DISTORTIONS["stutter"](), 1, np.random.default_rng()
        )
    assert os.listdir(tmp_path) == ["a.png"]
