"""Perturbations: the indices of every mode, and the draw that all processes must agree on."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbations import (
    PERTURBATIONS,
    Duplicate,
    GlobalShuffle,
    Jitter,
    LocalShuffle,
    RandomDrop,
    Reverse,
    draw,
)
from vqathinker import plugins
from vqathinker.types import Perturbation

MODES = {name: make() for name, make in PERTURBATIONS.items()}
frames = st.integers(2, 40)
seeds = st.integers(0, 2**31)


def test_registry_keys_and_protocol() -> None:
    assert list(PERTURBATIONS) == [
        "global_shuffle",
        "local_shuffle",
        "reverse",
        "jitter",
        "duplicate",
        "random_drop",
    ]
    assert all(isinstance(mode, Perturbation) for mode in MODES.values())


@pytest.mark.parametrize("name", list(MODES))
@given(num_frames=frames, seed=seeds)
def test_every_mode_returns_indices_and_survives_pickling(name: str, num_frames: int, seed: int) -> None:
    indices = MODES[name](num_frames, np.random.default_rng(seed))
    again = pickle.loads(pickle.dumps(MODES[name]))(num_frames, np.random.default_rng(seed))
    assert indices.dtype == np.int64
    assert indices.tolist() == again.tolist()
    assert set(indices.tolist()) <= set(range(num_frames))
    if name != "random_drop":
        assert len(indices) == num_frames


@given(num_frames=frames, seed=seeds)
def test_global_shuffle_is_a_permutation(num_frames: int, seed: int) -> None:
    indices = GlobalShuffle()(num_frames, np.random.default_rng(seed))
    assert sorted(indices.tolist()) == list(range(num_frames))


@given(num_frames=frames, window=st.integers(2, 9), seed=seeds)
def test_local_shuffle_stays_inside_its_windows(num_frames: int, window: int, seed: int) -> None:
    indices = LocalShuffle(window)(num_frames, np.random.default_rng(seed)).tolist()
    width = min(window, num_frames)
    for start in range(0, num_frames // width * width, width):
        assert sorted(indices[start : start + width]) == list(range(start, start + width))
    tail = num_frames // width * width
    assert indices[tail:] == list(range(tail, num_frames))


def test_local_shuffle_of_few_frames_is_one_window() -> None:
    seen = {tuple(LocalShuffle()(3, np.random.default_rng(seed)).tolist()) for seed in range(200)}
    assert len(seen) == 6


@given(num_frames=frames)
def test_reverse(num_frames: int) -> None:
    indices = Reverse()(num_frames, np.random.default_rng(0)).tolist()
    assert indices == list(reversed(range(num_frames)))


@given(num_frames=frames, seed=seeds)
def test_jitter_moves_by_one_at_most(num_frames: int, seed: int) -> None:
    indices = Jitter()(num_frames, np.random.default_rng(seed))
    assert np.abs(indices - np.arange(num_frames)).max() <= 1


def test_jitter_uses_all_three_offsets_equally() -> None:
    offsets = Jitter()(30_000, np.random.default_rng(0)) - np.arange(30_000)
    assert all(abs(np.mean(offsets == offset) - 1 / 3) < 0.02 for offset in (-1, 0, 1))


@given(num_frames=frames, seed=seeds)
def test_duplicate_has_one_run_of_copies_and_loses_as_many_others(num_frames: int, seed: int) -> None:
    indices = Duplicate()(num_frames, np.random.default_rng(seed)).tolist()
    counts = {frame: indices.count(frame) for frame in indices}
    repeated = [frame for frame, count in counts.items() if count > 1]
    assert len(indices) == num_frames
    assert len(repeated) == 1
    num_copies = counts[repeated[0]] - 1
    assert 1 <= num_copies <= min(3, num_frames - 1)
    runs = [
        start for start in range(num_frames) if indices[start : start + num_copies] == repeated * num_copies
    ]
    remainders = [indices[:start] + indices[start + num_copies :] for start in runs]
    assert any(all(a < b for a, b in pairwise(rest)) for rest in remainders)  # without one run, order is kept


@given(num_frames=frames, seed=seeds)
def test_random_drop_keeps_the_order(num_frames: int, seed: int) -> None:
    indices = RandomDrop()(num_frames, np.random.default_rng(seed)).tolist()
    assert 1 <= num_frames - len(indices) <= min(3, num_frames - 1)
    assert all(a < b for a, b in pairwise(indices))


@pytest.mark.parametrize("name", ["duplicate", "random_drop"])
def test_every_number_of_frames_is_drawn(name: str) -> None:
    seen = {tuple(MODES[name](6, np.random.default_rng(seed)).tolist()) for seed in range(3000)}
    changed = {6 - len(set(indices)) for indices in seen}
    assert changed == {1, 2, 3}
    assert {frame for indices in seen for frame in range(6) if frame not in indices} == set(range(6))


@pytest.mark.parametrize("mode", [Duplicate(), RandomDrop()])
def test_one_frame_is_refused(mode: Perturbation) -> None:
    with pytest.raises(ValueError, match="two frames"):
        mode(1, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("local_shuffle", {"window": 1}),
        ("jitter", {"reach": 0}),
        ("duplicate", {"max_copies": 0}),
        ("random_drop", {"max_dropped": 0}),
        ("reverse", {"speed": 2}),
    ],
)
def test_bad_arguments_are_refused(name: str, kwargs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        plugins.resolve(name, PERTURBATIONS, group="vqathinker.perturbations", **kwargs)


@given(num_frames=frames, seed=seeds, step=st.integers(0, 10**6), video_id=st.text())
def test_draw_repeats_and_is_never_the_identity(num_frames: int, seed: int, step: int, video_id: str) -> None:
    name, indices = draw(MODES, num_frames, seed=seed, video_id=video_id, step=step)
    again = draw(MODES, num_frames, seed=seed, video_id=video_id, step=step)
    assert (name, indices.tolist()) == (again[0], again[1].tolist())
    assert indices.tolist() != list(range(num_frames))


def test_draw_takes_every_mode_equally_often_even_for_two_frames() -> None:
    names = [draw(MODES, 2, seed=0, video_id=str(video), step=7)[0] for video in range(1200)]
    assert all(150 < names.count(name) < 250 for name in MODES)


def test_draw_depends_on_seed_video_and_step() -> None:
    mode = {"global_shuffle": GlobalShuffle()}
    base = {"seed": 1, "video_id": "a", "step": 2}
    first = draw(mode, 30, **base)[1].tolist()
    for change in ({"seed": 2}, {"video_id": "b"}, {"step": 3}):
        assert draw(mode, 30, **{**base, **change})[1].tolist() != first


def test_draw_is_the_same_in_another_process_with_another_hash_seed() -> None:
    code = (
        "from perturbations import GlobalShuffle, draw;"
        "print(draw({'g': GlobalShuffle()}, 12, seed=3, video_id='clip é', step=5)[1].tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    here = draw({"g": GlobalShuffle()}, 12, seed=3, video_id="clip é", step=5)[1].tolist()
    assert outputs == {str(here)}


def _identity(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(num_frames)


def _too_far(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(num_frames) + 1


def _floats(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    return np.zeros(num_frames)


@pytest.mark.parametrize(
    ("mode", "num_frames", "message"),
    [
        (_identity, 5, "in place"),
        (_too_far, 5, "for 5 frames"),
        (_floats, 5, "instead of frame indices"),
        (Reverse(), 1, "at least two frames"),
    ],
)
def test_draw_refuses(mode: Perturbation, num_frames: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw({"mode": mode}, num_frames, seed=0, video_id="a", step=0)


def test_draw_refuses_an_empty_list_of_modes() -> None:
    with pytest.raises(ValueError, match="no perturbation"):
        draw({}, 6, seed=0, video_id="a", step=0)
