"""Playable files are read whatever else is in them; a file never opens another one."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import frame_number, numbered_frame
from PIL import Image

from vqathinker.media.container import FORMATS, VideoError, probe
from vqathinker.media.video import read_keyframes

MakeVideo = Callable[..., Path]
ORIENTATION_TAG, MAKER_TAG = 274, 271


def write_camera_clip(path: Path, orientation: int) -> Path:
    """Motion JPEG whose pictures hold an Exif block, as cameras write it."""
    exif = Image.Exif()
    exif[MAKER_TAG] = "Camera"
    exif[ORIENTATION_TAG] = orientation
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuvj420p"
        for i in range(12):
            picture = io.BytesIO()
            Image.fromarray(numbered_frame(i, 128, 96)).save(picture, "JPEG", exif=exif.tobytes())
            packet = av.Packet(picture.getvalue())
            packet.pts = packet.dts = i
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 10), True
            container.mux(packet)
    return path


# What Exif's numbers say is to be done with the stored picture (x to the right, y down).
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["avi", "mov"])
def test_side_data_without_a_name(suffix: str, orientation: int, tmp_path: Path) -> None:
    path = write_camera_clip(tmp_path / f"camera.{suffix}", orientation)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    clip = read_keyframes(path, 6)
    expected = np.stack([UPRIGHT[orientation](frames[i]) for i in clip.indices])
    np.testing.assert_array_equal(clip.frames, expected)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "mpeg4"), ("mp4", "mpeg4"), ("mkv", "libx264"), ("flv", "flv1")]
)
def test_a_title_that_is_no_utf8(suffix: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"title.{suffix}"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "MARKERMARKER"
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(12):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i, 128, 96), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"MARKERMARKER", "Été à la mer".encode("latin-1")))
    with pytest.raises(UnicodeDecodeError), av.open(str(path)):
        pass
    clip = read_keyframes(path, 6)
    assert [frame_number(frame) for frame in clip.frames] == clip.indices.tolist()


def test_whatever_a_decoder_raises_names_the_file(
    make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "phone.mp4", 10, rotation=90)
    for error in (ValueError("31 is not a valid Type"), OverflowError("too large"), MemoryError()):

        def resize(_: np.ndarray, error: Exception = error) -> np.ndarray:
            raise error

        with pytest.raises(VideoError, match=type(error).__name__) as caught:
            read_keyframes(path, 6, resize=resize)
        assert caught.value.path == str(path)


REFERENCES = {
    "list.mp4": "ffconcat version 1.0\nfile {video}\n",
    "list.ffconcat": "ffconcat version 1.0\nfile {video}\n",
    "playlist.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{video}\n#EXT-X-ENDLIST\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 5004 RTP/AVP 32\n",
    "film.srt": "1\n00:00:00,000 --> 00:00:01,000\nWords\n\n",
    "film.vtt": "WEBVTT\n\n00:00.000 --> 00:01.000\nWords\n",
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_text_that_names_a_video_is_no_video(name: str, video: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(video.read_bytes())
    path = tmp_path / name
    path.write_text(REFERENCES[name].format(video="clip.mp4"))
    with pytest.raises(VideoError, match=r"none of the video formats|Invalid data"):
        read_keyframes(path, 6)


def test_a_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "frame001.png"
    Image.fromarray(numbered_frame(1, 128, 96)).save(path)
    for name in (path, tmp_path / "frame%03d.png"):
        with pytest.raises(VideoError):
            read_keyframes(name, 6)


@pytest.mark.parametrize(
    "form", ["concat:{}", "http://127.0.0.1:9/{}", "pipe:0", "subfile,,start,0,end,0,,:{}"]
)
def test_an_address_is_a_name_like_any_other(form: str, video: Path, tmp_path: Path) -> None:
    name = form.format("video.mp4").replace("/", "_")
    path = tmp_path / name
    with pytest.raises(VideoError, match="no such file"):
        read_keyframes(path, 6)
    path.write_bytes(video.read_bytes())
    assert read_keyframes(path, 6).num_frames == 40


def test_an_address_in_the_working_folder(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare name is where FFmpeg would see a protocol, in both decoders."""
    monkeypatch.chdir(tmp_path)
    name = "concat:a.mp4|b.mp4"
    Path(name).write_bytes(video.read_bytes())
    assert probe(name).indexable
    assert [frame_number(frame) for frame in read_keyframes(name, 6).frames] == [3, 9, 16, 23, 29, 35]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"),
        ("a.ts", "libx264"), ("a.mts", "libx264"), ("a.mpg", "mpeg2video"), ("a.vob", "mpeg2video"),
        ("a.flv", "flv1"), ("a.wmv", "wmv2"), ("a.asf", "wmv2"), ("a.webm", "libvpx-vp9"), ("a.3gp", "mpeg4"),
        ("a.nut", "mpeg4"), ("a.ogv", "libvpx"), ("a.mxf", "mpeg2video"), ("a.y4m", "wrapped_avframe"),
        ("a.h264", "libx264"), ("a.ivf", "libvpx"), ("a.m4v", "mpeg4"), ("a.gif", "gif"),
    ],
)  # fmt: skip
def test_known_formats(name: str, codec: str, make_video: MakeVideo, tmp_path: Path) -> None:
    pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
    path = make_video(tmp_path / name, 20, codec=codec, pix_fmt=pix_fmt)
    clip = read_keyframes(path, 4)
    assert [frame_number(frame) for frame in clip.frames] == clip.indices.tolist() == [2, 7, 12, 16]


def test_formats_are_those_of_ffmpeg() -> None:
    with_aliases = {alias for name in av.formats_available for alias in name.split(",")}
    assert set(FORMATS) <= with_aliases | {"evc", "vvc", "apng"}
    assert set(FORMATS).isdisjoint({"concat", "hls", "dash", "sdp", "rtsp", "image2", "lavfi", "srt", "imf"})
