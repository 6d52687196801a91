"""Motion features are kept by file and by everything else that shapes them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vqathinker.media.video import PIXELS_VERSION
from vqathinker.rollout import VideoEncoder, motion_cache
from vqathinker.rollout.motion_cache import CHECKS, SUFFIX, MotionCache

GENEROUS = 2.0**30
FEATURE = torch.arange(6.0).view(1, 6)
HAMMER = """
import sys, torch
from vqathinker.rollout.motion_cache import MotionCache
cache = MotionCache(sys.argv[1], ["weights"], 2000)
for i in range(25):
    cache.shrink()
    for path in sys.argv[2:]:
        place = cache.place(path)
        kept = cache.get(place)
        assert kept is None or torch.equal(kept, torch.full((1, 6), float(len(path)))), kept
        cache.put(place, torch.full((1, 6), float(len(path))))
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"video")
    return str(path)


def at(cache: MotionCache, path: str | Path) -> Path:
    place = cache.place(str(path))
    assert place is not None
    return place


def get(cache: MotionCache, path: str | Path) -> torch.Tensor | None:
    return cache.get(at(cache, path))


def put(cache: MotionCache, path: str | Path, feature: torch.Tensor = FEATURE) -> None:
    cache.put(at(cache, path), feature)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{SUFFIX}"))


def test_kept_until_the_file_or_the_network_changes(tmp_path: Path, file: str) -> None:
    cache = MotionCache(tmp_path / "kept", ["weights", 6, 448], GENEROUS)
    assert get(cache, file) is None
    put(cache, file)
    kept = get(MotionCache(tmp_path / "kept", ["weights", 6, 448], GENEROUS), file)
    assert kept is not None
    assert torch.equal(kept, FEATURE)
    for other in (["weights", 12, 448], ["other", 6, 448]):
        assert get(MotionCache(tmp_path / "kept", other, GENEROUS), file) is None
    Path(file).write_bytes(b"another video")
    assert get(cache, file) is None


def test_an_entry_cut_short_is_computed_again(tmp_path: Path, file: str) -> None:
    cache = MotionCache(tmp_path / "kept", [], GENEROUS)
    put(cache, file)
    (entry,) = entries(tmp_path)
    entry.write_bytes(entry.read_bytes()[:20])
    assert get(cache, file) is None
    assert entries(tmp_path) == []


def test_what_was_not_read_for_longest_goes_first(tmp_path: Path) -> None:
    cache = MotionCache(tmp_path / "kept", [], GENEROUS)
    files = [tmp_path / f"{i}.mp4" for i in range(5)]
    for age, path in enumerate(files):
        path.touch()
        put(cache, path)
        os.utime(at(cache, path), (1000 + age, 1000 + age))
    assert get(cache, files[0]) is not None  # now the one read last
    cache.max_bytes = 2 * entries(tmp_path)[0].stat().st_size
    cache.shrink()
    assert [get(cache, path) is not None for path in files] == [True, False, False, False, True]


def test_the_folder_stays_small_over_short_runs(tmp_path: Path) -> None:
    for run in range(4):
        cache = MotionCache(tmp_path / "kept", [], 10_000)
        for i in range(40):
            path = tmp_path / f"{run}-{i}.mp4"
            path.touch()
            put(cache, path, torch.zeros(1, 50))
            written = sum(entry.stat().st_size for entry in entries(tmp_path))
            assert written <= 10_000 * (1 + 1 / CHECKS) + 400
    assert written > 9_000


def test_what_a_crash_left_is_deleted(tmp_path: Path) -> None:
    old, young, foreign = (tmp_path / name for name in ("a.part", "b.part", "c.txt"))
    for path in (old, young, foreign):
        path.touch()
    os.utime(old, (1, 1))
    os.utime(foreign, (1, 1))
    MotionCache(tmp_path, [], GENEROUS)
    assert sorted(tmp_path.iterdir()) == [young, foreign]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, file: str) -> None:
    cache = MotionCache(tmp_path / "kept", [], GENEROUS)
    at(cache, file).mkdir(parents=True)  # in the place of the entry
    with pytest.raises(OSError, match=r"irectory"):
        put(cache, file)
    assert not list(tmp_path.rglob("*.part"))


def test_reading_never_stops_a_run(tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = MotionCache(tmp_path / "kept", [], GENEROUS)
    put(cache, file)

    def refuse(*_: object) -> None:
        raise PermissionError("another user's")

    monkeypatch.setattr(os, "utime", refuse)
    assert get(cache, file) is not None
    place = at(cache, file)
    Path(file).unlink()
    assert cache.place(file) is None
    place.unlink()  # by another process
    assert cache.get(place) is None


@pytest.mark.slow
def test_processes_share_a_folder(tmp_path: Path) -> None:
    paths = [tmp_path / f"{'x' * n}.mp4" for n in range(1, 9)]
    for path in paths:
        path.touch()
    command = [sys.executable, "-c", HAMMER, str(tmp_path / "kept"), *map(str, paths)]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(partial(subprocess.run, capture_output=True, text=True), [command] * 2))
    for done in runs:
        assert done.returncode == 0, done.stderr
    assert all(place.suffix == SUFFIX for place in (tmp_path / "kept").rglob("*") if place.is_file())
    MotionCache(tmp_path / "kept", ["weights"], 2000).shrink()
    assert sum(entry.stat().st_size for entry in entries(tmp_path)) <= 2000


def test_the_encoder_reads_what_it_kept(
    policies: Callable[..., tuple[Any, Any]], tmp_path: Path, file: str
) -> None:
    model, processor = policies()
    cache = MotionCache.of_policy(tmp_path / "kept", model, processor, processor.training, GENEROUS)
    assert cache is not None
    encoder = VideoEncoder(model, processor, processor.training, motion_cache=cache)
    rng = np.random.default_rng(0)
    pixels = [processor.pixels(rng.integers(0, 255, (6, 60, 60, 3), np.uint8), 56) for _ in range(2)]
    plain = VideoEncoder(model, processor, processor.training).encode_pixels(pixels, [None, None])
    place = cache.place(file)
    Path(file).write_bytes(b"another video")  # after the first was read
    first = encoder.encode_pixels(pixels, [place, None])
    assert get(cache, file) is None
    # the entry of the file as it was, whatever the pixels
    again = encoder.encode_pixels([pixels[1], pixels[0]], [place, None])
    assert len(entries(tmp_path)) == 1
    for one, other in (
        (first[0], plain[0]),
        (first[1], plain[1]),
        (again[0], plain[0]),
        (again[1], plain[0]),
    ):
        assert torch.equal(one.motion_features, other.motion_features)


def test_a_full_disk_does_not_stop_a_run(
    policies: Callable[..., tuple[Any, Any]],
    tmp_path: Path,
    file: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, processor = policies()
    cache = MotionCache.of_policy(tmp_path / "kept", model, processor, processor.training, GENEROUS)
    assert cache is not None
    encoder = VideoEncoder(model, processor, processor.training, motion_cache=cache)
    cache.folder = Path("/dev/full")  # nothing can be written below it
    pixels = [torch.zeros(6, 3, 56, 56)] * 2
    with caplog.at_level(logging.WARNING):
        videos = encoder.encode_pixels(pixels, [cache.place(file)] * 2)
    assert len(videos) == 2
    assert sum("not kept any more" in message for message in caplog.messages) == 1


def test_another_network_or_other_pixels_have_other_entries(
    policies: Callable[..., tuple[Any, Any]], tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = policies()

    def cache() -> MotionCache:
        found = MotionCache.of_policy(tmp_path / "kept", model, processor, processor.training, GENEROUS)
        assert found is not None
        return found

    put(cache(), file)
    assert get(cache(), file) is not None
    with monkeypatch.context() as patch:
        patch.setattr(motion_cache, "PIXELS_VERSION", PIXELS_VERSION + 1)
        assert get(cache(), file) is None
    assert get(cache(), file) is not None
    next(model.model.slowfast.buffers()).view(-1)[0] += 1e-3
    assert get(cache(), file) is None
    assert MotionCache.of_policy(tmp_path / "none", model, processor, processor.training, 0) is None
    assert not (tmp_path / "none").exists()
