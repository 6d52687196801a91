"""Real, tiny inputs: video files whose frames say which they are."""

from __future__ import annotations

import csv
import multiprocessing
import os
import runpy
import shutil
import socket
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: with tiny tensors more threads only wait

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import Result
from hypothesis import settings

from vqathinker.media.guarded import GuardedReader

SOAK = os.environ.get("SOAK") == "1"  # `make soak`: more examples, other ones each time
# the speed of a shared machine is not tested; the same examples each time, so that a failure is the change's
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None, max_examples=1000)
settings.load_profile("soak" if SOAK else "fixed")

# each process starts with what takes seconds to import
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["vqathinker.evaluation", "vqathinker.training.grpo.trainer", "vqathinker.training.sft.trainer"]
)
NUM_BITS = 7
CELL = 16
# of a Chromium that asks no other machine for anything
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def in_soak(*values: object, name: str) -> Any:  # noqa: ANN401  a case of pytest's parametrize
    """A case that `make soak` runs alone: another one like it is in every run."""
    return pytest.param(*values, id=name, marks=pytest.mark.skipif(not SOAK, reason="make soak runs it"))


def rounds(usual: int, soak: int) -> int:
    """How often something is repeated: in `make test`, and in `make soak`."""
    return soak if SOAK else usual


def permissions(folder: Path) -> set[int]:
    """Those that the files of a checkpoint have."""
    return {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()}


def run_in_two_processes(program: str, folder: Path, *arguments: str) -> None:
    """Run a Python program, written to a folder, as two processes of one group on the CPU."""
    path = folder / "program.py"
    path.write_text(program)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    ranks = [PROCESSES.Process(target=run_rank, args=(path, rank, port, arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    try:
        for process in ranks:
            process.join()
    finally:  # the test's time may be over
        for process in ranks:
            process.kill()
    said = "".join(file.read_text() for file in sorted(folder.glob("said-*")))
    assert [process.exitcode for process in ranks] == [0, 0], said[-3000:]


def run_rank(path: Path, rank: int, port: int, arguments: Sequence[str]) -> None:
    """Run a program as a launcher would that started two processes."""
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in group.items()}
    os.environ |= {"MASTER_ADDR": "localhost", "ACCELERATE_USE_CPU": "1"}
    redirect_output(path.parent / f"said-{rank}")
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")


def call(*arguments: object, columns: int = 80) -> Result:
    """Run the app in this process, on a terminal of so many columns."""
    from typer.testing import CliRunner

    from vqathinker.cli import app

    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, list(map(str, arguments)))


def redirect_output(path: Path) -> None:
    """Let this process write what it says into a file."""
    said = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)


def numbered_frame(index: int, width: int, height: int) -> np.ndarray:
    """Draw a frame number as a row of black (0) and white (1) cells above a red and a grey half."""
    frame = np.full((height, width, 3), 128, np.uint8)
    frame[height // 2 :, : width // 2] = (200, 30, 30)
    for bit in range(NUM_BITS):
        frame[8 : 8 + CELL, 8 + bit * CELL : 8 + (bit + 1) * CELL] = 255 * (index >> bit & 1)
    return frame


def frame_number(frame: np.ndarray) -> int:
    """Read the number back from a decoded, upright frame."""
    centres = [int(frame[8 + CELL // 2, 8 + bit * CELL + CELL // 2].mean() > 128) for bit in range(NUM_BITS)]
    return sum(value << bit for bit, value in enumerate(centres))


def write_video(
    path: Path,
    num_frames: int = 40,
    size: tuple[int, int] = (128, 96),
    *,
    fps: int = 25,
    rotation: int = 0,
    mirror: bool = False,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a video of `numbered_frame`s.

    Args:
        path: where; the suffix chooses the container.
        num_frames: how many frames, below 128.
        size: width and height in pixels as stored.
        fps: frames per second.
        rotation: degrees counter-clockwise that a player has to turn the frames.
        mirror: whether it then has to mirror them left to right.
        codec: encoder of FFmpeg.
        pix_fmt: its pixel format.
        options: the encoder's options; small groups of pictures by default.
        container_options: the container's options.
    """
    width, height = size
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options or {"g": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = Fraction(1, fps)
        if rotation or mirror:
            stream.set_display_rotation(rotation, hflip=mirror)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(index, width, height), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rewrap(
    source: Path,
    path: Path,
    *,
    flag: Callable[[int], bool] | None = None,
    change: Callable[[int, bytearray], bytearray] | None = None,
    drop: int = 0,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write the same encoded frames into another file.

    Args:
        source: a video file.
        path: where; the suffix chooses the container.
        flag: whether the i-th frame is called a keyframe; as in the source if omitted.
        change: the i-th frame's bits in place of those given.
        drop: frames left out at the start.
        container_options: the container's options.
    """
    with av.open(str(source)) as old, av.open(str(path), "w", options=container_options or {}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        for i, old_packet in enumerate(packets[drop:], start=drop):
            content = bytearray(bytes(old_packet))
            packet = av.Packet(bytes(change(i, content) if change else content))
            packet.pts, packet.dts = old_packet.pts, old_packet.dts
            packet.time_base, packet.duration = old_packet.time_base, old_packet.duration
            packet.is_keyframe = flag(i) if flag else old_packet.is_keyframe
            packet.stream = stream
            new.mux(packet)
    return path


def decode_all(path: Path, codec: str | None = None) -> np.ndarray:
    """Every frame in order, as PyAV gives it without any seeking; `codec` is what the file has to be in."""
    with av.open(str(path)) as container:
        assert codec in {None, container.streams.video[0].codec_context.name}
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_audio(path: Path) -> Path:
    """Write a tenth of a second of silence."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=44100, layout="mono")
        for start in range(0, 4096, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of frames of each video that the vision tower encodes, as the test goes on."""
    from vqathinker.rollout.encoder import VideoEncoder

    counts: list[int] = []
    features = VideoEncoder._frame_features

    def counting(self: VideoEncoder, pixels: Any) -> Any:  # noqa: ANN401
        counts.extend(map(len, pixels))
        return features(self, pixels)

    monkeypatch.setattr(VideoEncoder, "_frame_features", counting)
    return counts


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, where there is one."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield started
        started.close()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep out of the user's cache, in subprocesses too."""
    os.environ["VQATHINKER_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def decoders() -> Iterator[GuardedReader]:
    """Decoding processes that tests share: each starts once."""
    shared = GuardedReader(num_workers=2, time_limit=60.0)
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """`write_video`, for tests that need their own files."""
    return write_video


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain MP4 file of 40 frames, 128 x 96, in groups of 12."""
    return write_video(tmp_path_factory.mktemp("video") / "plain.mp4")


@pytest.fixture(scope="session")
def broken_videos(video: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file for each fault that makes a video unusable; the key names the fault."""
    folder = tmp_path_factory.mktemp("broken")
    paths = {
        name: folder / f"{name}.mp4" for name in ("missing", "empty", "text", "folder", "headless", "cut")
    }
    paths["empty"].touch()
    paths["text"].write_text("video,mos\na.mp4,3\n" * 50)
    paths["folder"].mkdir()
    paths["headless"].write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    whole = write_video(folder / "whole.mp4", container_options={"movflags": "faststart"}).read_bytes()
    paths["cut"].write_bytes(whole[: len(whole) * 2 // 3])
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 400] = bytes(400)
    paths["damaged"] = folder / "damaged.mp4"
    paths["damaged"].write_bytes(damaged)
    paths["audio"] = write_audio(folder / "audio.mp4")
    matroska = write_video(folder / "whole.mkv").read_bytes()
    paths["cut_matroska"] = folder / "cut.mkv"
    paths["cut_matroska"].write_bytes(matroska[: len(matroska) // 2])
    return paths


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint for each motion variant."""
    return tiny_checkpoints(tmp_path_factory.mktemp("checkpoints"))


def tiny_checkpoints(folder: Path, **options: Any) -> dict[str, Path]:
    """Build a tiny checkpoint for each motion variant in a folder, with options of `build_tiny`."""
    from vqathinker.checkpoints.tiny import build_tiny

    for motion in ("slowfast", "fast", "none"):
        build_tiny(folder / motion, motion=motion, **options)
    return {motion: folder / motion for motion in ("slowfast", "fast", "none")}


@pytest.fixture
def policies(checkpoints: dict[str, Path]) -> Callable[[str], tuple[Any, Any]]:
    """Loads a fresh model in eval mode and its processor by the name of the motion variant."""
    from vqathinker.checkpoints.assemble import load_policy

    def load(motion: str = "slowfast") -> tuple[Any, Any]:
        model, processor = load_policy(checkpoints[motion])
        return model.eval(), processor

    return load


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of about a million random weights, made with the real classes."""
    from vqathinker.checkpoints.tiny import build_tiny

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    build_tiny(folder)
    return folder


@pytest.fixture(scope="session")
def labelled_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 videos with `train.csv` (8) and `val.csv` (4), MOS from 1 to 5."""
    folder = tmp_path_factory.mktemp("labelled")
    for split, start, stop in (("train", 0, 8), ("val", 8, 12)):
        names = [write_video(folder / f"{i:02}.mp4", 20 + i, (64, 48)).name for i in range(start, stop)]
        lines = [f"{name},{1 + (i * 7 % 12) / 3:.2f}" for i, name in enumerate(names)]
        (folder / f"{split}.csv").write_text("\n".join(["video,mos", *lines]) + "\n")
    return folder
