"""Training decodes behind a guard: what crashes or hangs a decoder costs a video, never the run."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_in_two_processes
from PIL import Image
from torch.utils.data import DataLoader

from vqathinker.media.clips import read_clip, read_clips
from vqathinker.media.container import VideoError
from vqathinker.media.decoding import Decoded, decode_frames
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.image import read_image
from vqathinker.media.square import square
from vqathinker.media.video import Clip, read_keyframes
from vqathinker.types import FrameSetting

SETTING = FrameSetting(6, 56)

PROGRAM = """
import sys
from functools import partial
sys.path.insert(0, {tests!r})
import guarded_jobs
import test_trainer
from vqathinker.media import clips
from vqathinker.media.square import square

def job(setting):
    resize = partial(square, size=setting.size)
    return partial(guarded_jobs.decode, num_keyframes=setting.num_frames, resize=resize)

clips._job = job
test_trainer.trainer.HFEngine = test_trainer.ScriptedEngine
test_trainer.train_on_eight_videos({checkpoint!r}, {videos!r}, {out!r}, 8, {options!r})
"""


@pytest.mark.parametrize("settings", [{}, {"rotation": 90}, {"size": (129, 97), "codec": "mpeg4"}])
def test_a_clip_is_that_of_this_process(
    settings: dict, decoders: GuardedReader, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    path = str(make_video(tmp_path / "video.mp4", 30, **settings))
    clip = read_clip(decoders, path, SETTING)
    assert isinstance(clip, Clip)
    here = read_keyframes(path, 6)
    np.testing.assert_array_equal(clip.frames, square(here.frames, 56))
    assert clip.indices.tolist() == here.indices.tolist()


def test_several_in_their_order_and_what_is_to_be_said(
    decoders: GuardedReader,
    video: Path,
    broken_videos: dict[str, Path],
    make_video: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    short = make_video(tmp_path / "short.mp4", 3)
    paths = [str(path) for path in (video, broken_videos["text"], short, video)]
    with caplog.at_level(logging.WARNING):
        answers = read_clips(decoders, paths, SETTING)
    assert [answer.path for answer in answers] == paths
    assert [isinstance(answer, VideoError) for answer in answers] == [False, True, False, False]
    assert caplog.messages == [f"{short}: 3 frames for 6 keyframes, some are repeated"]


class Reading:
    """What a loader's forked process does."""

    def __init__(self, decoders: GuardedReader) -> None:
        self.decoders = decoders

    def __call__(self, paths: list[str]) -> torch.Tensor:
        clips = read_clips(self.decoders, paths, SETTING)
        return torch.stack([torch.from_numpy(clip.frames) for clip in clips if isinstance(clip, Clip)])


def test_a_loader_has_decoders_of_its_own(decoders: GuardedReader, video: Path) -> None:
    """The connections of the process that it comes from are not its own."""
    read = Reading(decoders)
    paths = [str(video)] * 3
    expected = read(paths[:1])
    loader = DataLoader(
        paths,  # type: ignore[arg-type]
        batch_size=1,
        num_workers=1,
        collate_fn=read,
        multiprocessing_context="fork",
    )
    for batch in loader:
        assert torch.equal(batch, expected)
        assert torch.equal(read(paths[:1]), expected)
    copy = pickle.loads(pickle.dumps(decoders))  # as a loader that starts afresh makes it
    assert (copy.num_workers, copy.time_limit) == (decoders.num_workers, decoders.time_limit)


@pytest.mark.slow
def test_two_processes_survive_files_that_end_or_hang_a_decoder(
    labelled_videos: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Both processes train and validate on; the two files are unreadable, and counted everywhere."""
    videos = tmp_path / "videos"
    shutil.copytree(labelled_videos, videos)
    for table, bad in (("train", ["hang.mp4", "segfault.mp4"]), ("val", ["segfault2.mp4"])):
        header, *lines = (videos / f"{table}.csv").read_text().splitlines()
        for i, name in enumerate(bad):
            old, rest = lines[i].split(",", 1)
            shutil.copy(next(videos.glob(f"{Path(old).stem}*")), videos / name)
            lines[i] = f"{name},{rest}"
        (videos / f"{table}.csv").write_text("\n".join([header, *lines]) + "\n")
    out = tmp_path / "out"
    out.mkdir()
    program = PROGRAM.format(
        tests=str(Path(__file__).parent),
        checkpoint=str(tiny_checkpoint),
        videos=str(videos),
        out=str(out),
        options={"max_steps": 2, "max_unreadable": 0.3, "decode_seconds": 5.0, "decode_workers": 1},
    )
    run_in_two_processes(program, out)
    _, entries, metrics = torch.load(out / "result.pt", weights_only=False)
    assert [entry["unreadable_videos"] for entry in entries] == [2, 2]
    assert metrics["eval_unreadable"] == 1
    lines = [json.loads(line) for line in (out / "unreadable_videos.jsonl").read_text().splitlines()]
    reasons = {Path(line["path"]).name: line["reason"] for line in lines}
    assert reasons == {
        "hang.mp4": "reading it took longer than 5 s",
        "segfault.mp4": "the decoder crashed (SIGSEGV)",
    }


def test_pictures_of_other_depths_are_not_cut(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
    for name in ("a.png", "a.tiff"):
        Image.fromarray(ramp).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name).frames[0, ..., 1], ramp >> 8)
    for name, values in (("f.tiff", ramp / 65535), ("i.tiff", ramp.astype(np.int32))):
        Image.fromarray(values.astype(np.float32) if name == "f.tiff" else values).save(tmp_path / name)
        with pytest.raises(VideoError, match=r"what is white in mode . is not known"):
            read_image(tmp_path / name)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[37:41] = b"\x00!?\x00"  # the name of a chunk
    for stop in (*range(20, len(content), 5), len(content)):
        (tmp_path / "b.png").write_bytes(content[:stop])
        with pytest.raises(VideoError, match=r"b\.png"):
            read_image(tmp_path / "b.png")


def test_the_last_frame_stands_for_what_is_cut_off(video: Path) -> None:
    """Fewer frames than packets, and no times: measures ask for places near the end."""

    def decode(wanted: set[int], num_frames: int | None = None) -> Decoded:
        return decode_frames(str(video), wanted, lambda frame: frame, num_frames=num_frames)

    number = decode({0}).num_frames
    decoded = decode({0, number}, number + 1)
    assert (set(decoded.frames), decoded.num_lost) == ({0, number}, 1)
    (last,) = decode({number - 1}).frames.values()
    np.testing.assert_array_equal(decoded.frames[number], last)
    with pytest.raises(VideoError, match=f"{number} of {2 * number} frames are lost"):
        decode({0, number}, 2 * number)
