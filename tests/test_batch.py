"""Rows of several processes become one batch; what is reported of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewards
from rewards import evaluate
from rewards.check import metrics_of
from vqathinker import answers
from vqathinker.records import Record, collect
from vqathinker.training.grpo.batch import accepts_answer_only, as_reward, batch_metrics
from vqathinker.training.unreadable import UnreadableVideos
from vqathinker.types import FloatArray, RolloutBatch

RULES = ("format", "regression", "ranking", "temporal")


def record(video: int, k: int, *, skipped: bool = False, dataset: str = "d") -> Record:
    """Response k of a video; the texts differ in every response."""
    target = 1 + video * 0.4
    texts = [answers.render("clean", target + k / 5 - 0.3), answers.render("twin", target - k / 3)]
    return Record(dataset, f"v{video}", target, *texts, skipped, {"name": f"n{video}"})


def reward_by_row(records: list[Record]) -> dict[tuple[str, str], list[float]]:
    """Each row's rewards by all rules, under its video and text."""
    batch, places = collect(records)
    assert batch is not None
    tables = [rewards.evaluate(rewards.load(name), batch, name) for name in RULES]
    return {
        (records[row].video_id, records[row].text): [table[place] for table in tables]
        for row, place in places.items()
    }


@given(st.permutations(range(32)))
def test_rewards_do_not_depend_on_who_holds_the_rows(order: list[int]) -> None:
    """One process with 8 videos, or rank-major rows of any number of processes."""
    records = [record(video, k) for video in range(8) for k in range(4)]
    expected = reward_by_row(records)
    found = reward_by_row([records[i] for i in order])
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, abs=1e-12)


def test_grouping() -> None:
    records = [record(0, 0), record(1, 0, skipped=True), record(2, 0), record(0, 1), record(2, 1)]
    batch, places = collect(records)
    assert batch is not None
    assert batch.video_id == ["v0", "v2"]
    assert batch.columns == {"name": ["n0", "n2"]}
    assert places == {0: (0, 0), 3: (0, 1), 2: (1, 0), 4: (1, 1)}
    assert batch.perturbed is not None
    assert batch.perturbed.texts[1][1] == records[4].twin_text


def test_videos_of_the_same_name_in_two_data_sets() -> None:
    batch, _ = collect([record(0, 0), record(0, 0, dataset="e")])
    assert batch is not None
    assert batch.dataset == ["d", "e"]


def test_nothing_readable() -> None:
    assert collect([record(0, 0, skipped=True)]) == (None, {})


def test_groups_of_different_size() -> None:
    with pytest.raises(ValueError, match="same number of responses"):
        collect([record(0, 0), record(0, 1), record(1, 0)])


def test_rows_of_one_video_with_two_targets() -> None:
    with pytest.raises(ValueError, match="different targets"):
        collect([record(0, 0), replace(record(0, 1), target=1.5)])


def test_twin_texts_for_some_rows() -> None:
    with pytest.raises(ValueError, match="1 of 2 rows have a twin_text"):
        collect([record(0, 0), replace(record(0, 1), twin_text=None)])


def test_a_record_keeps_the_other_columns() -> None:
    row = {"dataset": "d", "video_id": "v", "target": 3.0, "path": "p", "prompt": "d/v", "mos": 60.0}
    found = Record.from_row(row, "text", skipped=False)
    assert found.columns == {"path": "p", "prompt": "d/v", "mos": 60.0}
    assert found.twin_text is None


def logged(records: list[Record], **named: Callable[..., Any]) -> dict[str, float]:
    batch, _ = collect(records)
    assert batch is not None
    return batch_metrics(batch, named)


class Reporting:
    """A reward with a number of its own."""

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        return np.zeros(batch.scores.shape)

    def metrics(self, batch: RolloutBatch) -> dict[str, float]:
        return {"videos": float(batch.num_videos)}


def test_logged_numbers() -> None:
    found = logged([record(video, k) for video in range(4) for k in range(2)], mine=Reporting())
    assert found["scores/parse_failures"] == 0
    assert found["scores/srcc"] == pytest.approx(1)
    assert found["scores/plcc"] == pytest.approx(1)
    assert found["scores/spread"] == pytest.approx(0.1)
    assert found["rewards/mine/videos"] == 4


def test_a_wild_answer_does_not_hide_the_others_in_the_logged_numbers() -> None:
    records = [record(video, k) for video in range(4) for k in range(4)]
    wild = replace(records[3], text=answers.render("wild", 2444))
    six = replace(records[3], text=answers.render("six", 6))
    found, expected = (logged([*records[:3], other, *records[4:]]) for other in (wild, six))
    assert found == pytest.approx(expected)
    assert found["scores/spread"] < 1
    assert found["scores/off_scale"] == 3 / 16  # the first two answers are 0.7 and 0.9


def test_logged_numbers_without_a_score() -> None:
    nothing = [Record("d", f"v{i}", 3.0, "no", None, False) for i in range(3)]
    found = logged(nothing)
    assert found["scores/parse_failures"] == 1
    assert np.isnan(found["scores/srcc"])
    assert np.isnan(found["scores/spread"])


def trl_style(completions: list[str], **columns: Any) -> list[float]:
    return [len(text) + len(name) for text, name in zip(completions, columns["name"], strict=True)]


def test_trl_functions_are_recognised() -> None:
    batch, _ = collect([record(0, 0), record(0, 1)])
    assert batch is not None
    assert as_reward(trl_style)(batch).shape == (1, 2)
    for reward in (rewards.load("format"), rewards.load("ranking")):
        assert as_reward(reward) is reward
    assert as_reward(max) is max


def test_answers_alone() -> None:
    assert not accepts_answer_only({"format": rewards.load("format")})
    assert accepts_answer_only({"format": rewards.load("format", think=False)})


def test_unreadable_videos_are_bounded(tmp_path: Path) -> None:
    videos = UnreadableVideos(tmp_path / "new", num_videos=100, max_share=0.02)
    videos.add([], 4, 0, write=True)
    assert not videos.report.exists()
    videos.add([("a", "cut")], 4, 0, write=True)
    videos.add([("a", "cut"), ("b", "gone")], 4, 1, write=True)  # two different ones are allowed
    with pytest.raises(RuntimeError, match=r"3 of 100 videos .* The last one is c: cut; all are in"):
        videos.add([("c", "cut")], 4, 2, write=True)
    lines = [json.loads(line) for line in videos.report.read_text().splitlines()]
    assert [line["path"] for line in lines] == ["a", "a", "b", "c"]
    assert lines[-1] == {"step": 2, "path": "c", "reason": "cut"}


def test_a_resumed_run_counts_on(tmp_path: Path) -> None:
    first = UnreadableVideos(tmp_path, num_videos=100, max_share=0.02)
    first.begin(resumes=False, write=True)
    first.add([("a", "cut"), ("b", "cut")], 4, 0, write=True)
    with first.report.open("a") as file:
        file.write('{"step": 1, "pa')  # killed while it wrote
    again = UnreadableVideos(tmp_path, num_videos=100, max_share=0.02)
    again.begin(resumes=True, write=True)
    assert again.paths == {"a", "b"}
    with pytest.raises(RuntimeError, match="3 of 100 videos cannot be read"):
        again.add([("c", "cut")], 4, 2, write=False)
    other = UnreadableVideos(tmp_path, num_videos=100, max_share=0.02)
    other.begin(resumes=False, write=True)  # --overwrite_output_dir
    assert not other.report.exists()
    other.add([("c", "cut")], 4, 0, write=True)
    assert other.paths == {"c"}


def test_processes_that_share_a_report_count_together(tmp_path: Path) -> None:
    """Four processes with different videos: the same count as one process with all."""
    ranks = [UnreadableVideos(tmp_path, 100, 0.03, is_shared=True) for _ in range(4)]
    for i, rank in enumerate(ranks[:3]):
        rank.add([(f"video {i}", "cut")], 4, None, write=True)
    ranks[1].add([("video 0", "cut")], 4, None, write=True)  # in the next epoch, another process's video
    with pytest.raises(RuntimeError, match="4 of 100 videos cannot be read"):
        ranks[3].add([("video 3", "cut")], 4, None, write=True)


def test_a_batch_without_a_readable_video_stops(tmp_path: Path) -> None:
    videos = UnreadableVideos(tmp_path, num_videos=1000, max_share=0.5)
    videos.add([("a", "cut")], 1, 0, write=False)
    with pytest.raises(RuntimeError, match="none of the 2 videos of a batch can be read"):
        videos.add([("a", "cut"), ("b", "cut")], 2, 1, write=False)
    assert not videos.report.exists()


class OfTask:
    """Its number for every response; needs copies if told so."""

    def __init__(self, tasks: tuple[str, ...] | None = None, **declared: Any) -> None:
        if tasks is not None:
            self.tasks = tasks
        vars(self).update(declared)
        self.seen: list[list[str]] = []

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        self.seen.append(list(batch.video_id))
        return np.ones(batch.scores.shape)


def test_a_reward_is_called_with_the_rows_that_it_is_for() -> None:
    rows = [
        Record("d", name, 3.0, text, twin, task=task)
        for name, task, twin in (("a", "score", "x"), ("b", "pair", None), ("c", "score", None))
        for text in ("1", "2")
    ]
    batch, _ = collect(rows)
    assert batch is not None
    assert (list(batch.task), batch.has_twin.tolist()) == (["score", "pair", "score"], [True, False, False])  # type: ignore[union-attr]
    for reward, shown, wanted in (
        (OfTask(), "abc", "abc"),
        (OfTask(("score",)), "ac", "ac"),
        (OfTask(("pair", "score")), "abc", "abc"),
        (
            OfTask(("score",), needs_perturbed=True),
            "ac",
            "a",
        ),
        (OfTask(("pair",), needs_perturbed=True), "", ""),
        (OfTask(("other",)), "", ""),
        (OfTask(datasets=("d", "e")), "abc", "abc"),
        (OfTask(("score",), datasets=("e",)), "", ""),
    ):
        values = evaluate(reward, batch, "one")
        assert list(map("".join, reward.seen)) == ([shown] if shown else [])
        counted = [name for name, row in zip("abc", values, strict=True) if not np.isnan(row).any()]
        assert "".join(counted) == wanted


def test_videos_without_a_twin_are_opponents_all_the_same() -> None:
    """The ranking inside of the temporal reward is the ranking."""
    told = [("a", 4.0, 4.1, 2.0), ("b", 3.0, 3.1, None), ("c", 2.0, 1.9, None), ("d", 1.0, 1.2, None)]
    rows = [
        Record(
            "d", name, target, answers.render("", score), None if twin is None else answers.render("", twin)
        )
        for name, target, score, twin in told
        for _ in range(2)
    ]
    batch, _ = collect(rows)
    assert batch is not None
    found = evaluate(rewards.load("temporal"), batch, "temporal")
    assert found[0].tolist() == [0.6, 0.6]
    assert np.isnan(found[1:]).all()
    assert metrics_of(rewards.load("temporal"), batch, "temporal") == {"win_rate": 1.0}


def test_what_is_derived_of_some_rows_is_derived_once() -> None:
    batch = RolloutBatch.from_texts([["1"], ["2"]], [1.0, 2.0], task=["score", "pair"])
    assert batch.select([0]) is batch.select([0])
    assert (batch.select([1]).scores.shape, batch.select([1]).target.tolist()) == ((1, 1), [2.0])


def test_a_batch_without_any_twin_has_no_reward_that_needs_them() -> None:
    """All videos of it may be pictures, or unreadable; a run that draws none at all is another fault."""
    lone = [replace(record(video, k), twin_text=None) for video in range(2) for k in range(2)]
    temporal = rewards.load("temporal")
    batch, _ = collect(lone, draws_twins=True)
    assert batch is not None
    assert np.isnan(evaluate(temporal, batch, "temporal")).all()
    without, _ = collect(lone)
    assert without is not None
    with pytest.raises(RuntimeError, match="'temporal' failed on the videos"):
        evaluate(temporal, without, "temporal")


class Broken(Reporting):
    """A reward whose report fails."""

    def metrics(self, batch: RolloutBatch) -> dict[str, float]:
        return {"share": 1 / 0}


def test_a_report_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match="the metrics of reward 'mine' failed: ZeroDivisionError"):
        logged([record(0, 0)], mine=Broken())
