"""The batch that travels between the stages."""

import dataclasses
import math
import pickle

import numpy as np
import pytest

from vqathinker import Perturbation, Reward, RolloutBatch, answers
from vqathinker.types import FloatArray, IndexArray


def texts(*rows: tuple[float, ...]) -> list[list[str]]:
    return [[answers.render("", score) for score in row] for row in rows]


def batch(**changes: object) -> RolloutBatch:
    fields = {
        "texts": texts((3, 4), (1, 2)),
        "scores": np.array([[3.0, 4.0], [1.0, 2.0]]),
        "target": np.array([3.5, 1.5]),
        "video_id": ["a", "b"],
        "dataset": ["x", "x"],
    }
    return RolloutBatch(**{**fields, **changes})  # type: ignore[arg-type]


def test_from_texts_parses_every_response() -> None:
    rows = [["<think></think><answer>3.50</answer>", "3.5"], ["<answer>2</answer>", answers.render("", 9)]]
    read = RolloutBatch.from_texts(rows, [3, 2])
    np.testing.assert_array_equal(read.scores, [[3.5, math.nan], [math.nan, 9.0]])
    np.testing.assert_array_equal(RolloutBatch.from_texts(rows, [3, 2], think=False).scores[1], [2.0, 9.0])
    assert read.scores.dtype == read.target.dtype == np.float64
    assert (read.num_videos, read.num_responses) == (2, 2)


def test_from_texts_names_what_is_not_named() -> None:
    read = RolloutBatch.from_texts(texts((3,), (4,)), [3, 4])
    assert list(read.video_id) == ["0", "1"]
    assert list(read.dataset) == ["", ""]
    assert read.perturbed is None
    assert dict(read.columns) == {}


def test_from_texts_builds_the_twins_for_the_same_videos() -> None:
    read = RolloutBatch.from_texts(
        texts((3, 4), (1, 2)),
        [3.5, 1.5],
        video_id=["a", "b"],
        dataset=["x", "y"],
        perturbed=texts((2, 2), (1, 1)),
        columns={"width": [640, 480]},
    )
    twins = read.perturbed
    assert twins is not None
    np.testing.assert_array_equal(twins.scores, [[2, 2], [1, 1]])
    np.testing.assert_array_equal(twins.target, read.target)
    assert list(twins.video_id) == ["a", "b"]
    assert list(twins.dataset) == ["x", "y"]
    assert list(twins.columns["width"]) == [640, 480]
    again = RolloutBatch.from_texts(texts((3, 4), (1, 2)), [3.5, 1.5], video_id=["a", "b"], perturbed=twins)
    assert again.perturbed is twins


def test_twins_may_differ_in_the_number_of_responses() -> None:
    read = RolloutBatch.from_texts(texts((3, 4)), [3.5], perturbed=texts((3,)))
    assert read.perturbed is not None
    assert (read.num_responses, read.perturbed.num_responses) == (2, 1)


def test_one_name_may_stand_in_two_data_sets_but_not_twice_in_one() -> None:
    rows = texts((3,), (4,))
    assert RolloutBatch.from_texts(rows, [3, 4], video_id=["a", "a"], dataset=["x", "y"]).num_videos == 2
    with pytest.raises(ValueError, match="share a video_id"):
        RolloutBatch.from_texts(rows, [3, 4], video_id=["a", "a"])


def test_an_empty_batch_is_a_batch() -> None:
    read = RolloutBatch.from_texts([], [])
    assert (read.num_videos, read.num_responses) == (0, 0)
    assert read.scores.shape == (0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": [["a"], ["b", "c"]]}, "same number of responses"),
        ({"scores": np.zeros((2, 3))}, r"\(2, 3\)"),
        ({"scores": np.zeros(2)}, r"\(2,\)"),
        ({"target": np.zeros(3)}, r"\(3,\)"),
        ({"video_id": ["a"]}, "video_id has 1"),
        ({"dataset": ["x"] * 3}, "dataset has 3"),
        ({"columns": {"width": [640]}}, "width has 1"),
        ({"perturbed": batch(video_id=["b", "a"])}, "same order"),
    ],
)
def test_parts_that_do_not_fit_raise(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch(**changes)


def test_lengths_given_to_from_texts_are_checked() -> None:
    with pytest.raises(ValueError, match="target"):
        RolloutBatch.from_texts(texts((3,), (4,)), [3])
    with pytest.raises(ValueError, match=r"every video needs the same number of responses, got \[1, 2\]"):
        RolloutBatch.from_texts(texts((3,), (4, 5)), [3, 4])
    with pytest.raises(ValueError, match="zip"):
        RolloutBatch.from_texts(texts((3,), (4,)), [3, 4], video_id=["a"])


def test_a_batch_is_frozen_and_pickles() -> None:
    original = batch(perturbed=batch())
    with pytest.raises(dataclasses.FrozenInstanceError):
        original.target = np.zeros(2)  # type: ignore[misc]
    original.derived("kept here", lambda: 1)
    copy = pickle.loads(pickle.dumps(original))
    assert copy.derived("kept here", lambda: 2) == 2
    np.testing.assert_array_equal(copy.scores, original.scores)
    np.testing.assert_array_equal(copy.perturbed.target, original.target)


def test_a_derived_value_is_computed_once_for_each_batch() -> None:
    original = batch()
    assert original.derived("a", lambda: 1) == original.derived("a", lambda: 2) == 1
    assert original.derived("b", lambda: 3) == 3
    assert dataclasses.replace(original).derived("a", lambda: 4) == 4
    assert "derived" not in repr(original)


def test_any_callable_is_a_plug_in() -> None:
    def reward(batch: RolloutBatch) -> FloatArray:
        return np.zeros_like(batch.scores)

    def perturbation(num_frames: int, rng: np.random.Generator) -> IndexArray:
        return rng.permutation(num_frames)

    assert isinstance(reward, Reward)
    assert isinstance(perturbation, Perturbation)
    assert not isinstance("format", Reward)
