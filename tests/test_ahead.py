"""Files are read before they are asked for, each once, never more than allowed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from vqathinker.media.ahead import ReadAhead


class Reader:
    """Counts what it is asked to read; `gate` holds it back."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, path: str) -> str:
        self.gate.wait(10)
        self.read.append(path)
        return path.upper()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_announced_files_are_read_ahead_in_order_and_once() -> None:
    reader = Reader()
    ahead = ReadAhead(reader, num_workers=1, max_ahead=10)
    ahead.announce(["a", "b"])
    ahead.announce(["a", "b", "c", "c"])
    wait_for(lambda: reader.read == ["a", "b", "c"])
    assert ahead.take(["b", "a"]) == ["B", "A"]
    assert ahead.take(["c"]) == ["C"]
    assert reader.read == ["a", "b", "c"]


def test_no_more_than_allowed_is_read_ahead() -> None:
    reader = Reader()
    ahead = ReadAhead(reader, num_workers=4, max_ahead=3)
    ahead.announce("abcdef")
    wait_for(lambda: len(reader.read) == 3)
    time.sleep(0.05)
    assert sorted(reader.read) == ["a", "b", "c"]
    assert ahead.take(["a", "b"]) == ["A", "B"]
    wait_for(lambda: len(reader.read) == 5)
    assert sorted(reader.read) == ["a", "b", "c", "d", "e"]


def test_what_was_not_announced_is_read_at_once() -> None:
    reader = Reader()
    ahead = ReadAhead(reader, num_workers=2, max_ahead=1)
    ahead.announce("ab")
    assert ahead.take(["b", "x"]) == ["B", "X"]  # b is announced, but not yet begun
    wait_for(lambda: sorted(reader.read) == ["a", "b", "x"])
    time.sleep(0.02)
    assert sorted(reader.read) == ["a", "b", "x"]


def test_announcements_that_were_passed_over_are_forgotten() -> None:
    reader = Reader()
    ahead = ReadAhead(reader, num_workers=1, max_ahead=2)
    ahead.announce("abcd")
    wait_for(lambda: len(reader.read) == 2)
    assert ahead.take(["c"]) == ["C"]
    wait_for(lambda: "d" in reader.read)
    assert list(ahead.started) == ["d"]


def test_forget() -> None:
    reader = Reader()
    reader.gate.clear()
    ahead = ReadAhead(reader, num_workers=1, max_ahead=5)
    ahead.announce("abc")
    ahead.forget()
    reader.gate.set()
    assert ahead.take(["x"]) == ["X"]
    assert set(reader.read) <= {"a", "x"}  # the one that was being read


def test_an_error_reaches_the_one_who_takes() -> None:
    def read(path: str) -> str:
        raise KeyError(path)

    ahead = ReadAhead(read, num_workers=1, max_ahead=1)
    ahead.announce(["a"])
    with pytest.raises(KeyError):
        ahead.take(["a"])


def test_its_threads_compute_with_themselves_alone() -> None:
    program = """
import torch
from vqathinker.media.ahead import ReadAhead
reader = ReadAhead(lambda _: torch.get_num_threads(), 1, 1)
print(reader.take(["a", "b"]), torch.get_num_threads())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 1] 2\n"
