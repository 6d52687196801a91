"""Files that crash or hang a decoder cost themselves only; 200 damaged ones are read like any other."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import rounds
from guarded_jobs import act, mark

from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.square import square
from vqathinker.media.video import WHOLE, read_keyframes, read_spans


@pytest.fixture
def reader() -> Iterator[GuardedReader]:
    made = GuardedReader(num_workers=2, time_limit=2.0)
    yield made
    made.close()


def test_every_fault_stays_with_its_file(reader: GuardedReader, capfd: pytest.CaptureFixture[str]) -> None:
    faults = {
        "segfault": "the decoder crashed (SIGSEGV)",
        "exit": "the decoder crashed",
        "hang": "reading it took longer than 2 s",
        "refuse": "no such file",
        "surprise": "cannot be decoded (OverflowError: too many frames)",
    }
    paths = [name for fault in faults for name in (fault, f"good {fault}")] + ["noise", "good end"]
    answers = list(reader.map(act, paths))
    assert len(answers) == len(paths)
    for path, answer in zip(paths, answers, strict=True):
        if path in faults:
            assert isinstance(answer, VideoError)
            assert (answer.path, answer.reason) == (path, faults[path])
        else:
            assert isinstance(answer, str)
            assert answer.startswith(f"{path} by ")
    assert capfd.readouterr() == ("", "")


def test_processes_are_kept_and_end(reader: GuardedReader) -> None:
    answers = [*reader.map(act, map(str, range(20))), reader.read(act, "once more")]
    numbers = {int(str(answer).split()[-1]) for answer in answers}
    assert 1 <= len(numbers) <= 2
    assert os.getpid() not in numbers
    reader.close()
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
    assert isinstance(reader.read(act, "again"), str)


def test_reading_ahead_is_bounded(reader: GuardedReader, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i:03}") for i in range(60)]
    answers = reader.map(mark, paths, ahead=5)
    assert [next(answers) for _ in range(10)] == paths[:10]
    time.sleep(0.5)
    read = sorted(path.name for path in tmp_path.iterdir())
    assert read == [f"{i:03}" for i in range(15)]
    answers.close()  # type: ignore[attr-defined]
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) <= 16


def test_giving_up_does_not_wait() -> None:
    patient = GuardedReader(num_workers=3, time_limit=500)
    for wait in (0.0, 0.05, 0.3, 1.0):  # processes that are being started, that import, that read
        answers = patient.map(act, ["good", "hang", "hang", "hang", "hang"])
        assert isinstance(next(answers), str)
        time.sleep(wait)
        start = time.monotonic()
        answers.close()  # type: ignore[attr-defined]
        assert time.monotonic() - start < 60


def test_no_limit_is_too_long() -> None:
    with closing(GuardedReader(num_workers=1, time_limit=math.inf)) as patient:
        assert isinstance(patient.read(act, "good"), str)


@pytest.mark.parametrize("values", [{"num_workers": 0}, {"time_limit": 0.0}])
def test_impossible_numbers(values: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))}=0"):
        GuardedReader(**values)


def test_a_script_needs_no_guard(video: Path, tmp_path: Path) -> None:
    """A plain script works, whatever it does at its top level, and ends with its processes idle."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from vqathinker.media.guarded import GuardedReader\n"
        "from vqathinker.media.container import probe\n"
        f"reader = GuardedReader()\nprint(reader.read(probe, {str(video)!r}).num_packets)\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (run.stdout, run.stderr, run.returncode) == ("once\n40\n", "", 0)


@pytest.mark.parametrize("settings", [{}, {"rotation": 90}, {"size": (129, 97), "codec": "mpeg4"}])
def test_frames_are_those_of_this_process(
    settings: dict, reader: GuardedReader, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    path = str(make_video(tmp_path / "video.mp4", 30, **settings))
    job = partial(read_spans, spans=[WHOLE, (10, 20)], num_keyframes=6, resize=partial(square, size=56))
    answer = reader.read(job, path)
    assert not isinstance(answer, VideoError)
    here = read_keyframes(path, 6)
    np.testing.assert_array_equal(answer[0].frames, square(here.frames, 56))
    np.testing.assert_array_equal(answer[0].indices, here.indices)
    assert answer[1].indices.tolist() == [10, 12, 13, 14, 16, 18]


def damaged(source: bytes, rng: np.random.Generator) -> bytes:
    """Flip some bits, overwrite a run, or cut; sometimes several of them."""
    data = bytearray(source)
    for kind in rng.choice(3, size=rng.integers(1, 3), replace=False):
        if kind == 0:
            for place in rng.integers(0, len(data), rng.integers(1, 200)):
                data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            start = int(rng.integers(len(data)))
            run = rng.integers(0, 256, int(rng.integers(1, 600)), dtype=np.uint8).tobytes()
            data[start : start + len(run)] = run
        else:
            del data[int(rng.integers(1, len(data))) :]
    return bytes(data)


@pytest.mark.slow
def test_damaged_files(make_video: Callable[..., Path], tmp_path: Path) -> None:
    whole = [
        make_video(tmp_path / "whole.mp4", 20),
        make_video(tmp_path / "whole.mkv", 20),
        make_video(tmp_path / "whole.avi", 20, codec="mpeg4"),
        make_video(tmp_path / "whole.ts", 20),
        make_video(tmp_path / "fast.mp4", 20, container_options={"movflags": "faststart"}),
    ]
    rng = np.random.default_rng(0)
    paths = []
    number = rounds(80, 1000)
    for i in range(number):
        source = whole[i % len(whole)]
        path = tmp_path / f"{i:03}{source.suffix}"
        path.write_bytes(damaged(source.read_bytes(), rng))
        paths.append(str(path))
    reader = GuardedReader(num_workers=2, time_limit=10)
    job = partial(read_spans, spans=[WHOLE], num_keyframes=6, resize=partial(square, size=56))
    answers = list(reader.map(job, paths))
    reader.close()
    assert len(answers) == number
    errors = [answer for answer in answers if isinstance(answer, VideoError)]
    assert number / 10 < len(errors) < number
    for path, answer in zip(paths, answers, strict=True):
        if isinstance(answer, VideoError):
            assert answer.path == path
            assert answer.reason
            assert "\n" not in answer.reason
        else:
            assert answer[0].frames.shape == (6, 56, 56, 3)
