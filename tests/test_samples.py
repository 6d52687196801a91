"""Samples and their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker.data.dataset import load_labels
from vqathinker.samples import Media, Sample, read_samples, write_samples

words = st.text(min_size=1, max_size=8)
numbers = st.floats(-10, 10)
media = st.builds(Media, words, st.sampled_from(["video", "image", ""]))
json_values = st.recursive(
    st.none() | st.booleans() | numbers | words, lambda values: st.lists(values, max_size=2), max_leaves=3
)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    several = draw(st.lists(media, min_size=1, max_size=2))
    options = draw(st.lists(words, max_size=4))
    return Sample(
        id=draw(words),
        dataset=draw(st.text(max_size=5)),
        media=tuple(several),
        task=draw(words),
        question=draw(st.none() | st.text(max_size=9)),
        answer=draw(st.none() | st.text(max_size=9)),
        target=draw(st.none() | numbers),
        spread=draw(st.none() | numbers),
        levels=draw(st.sampled_from([None, (0.2, 0.2, 0.2, 0.2, 0.2), (1.0, 0.0, 0.0, 0.0, 0.0)])),
        preference=draw(st.sampled_from([None, 0.0, 0.5, 1.0])) if len(several) == 2 else None,
        options=tuple(options),
        correct=draw(st.none() | st.integers(0, len(options) - 1)) if options else None,
        columns=draw(st.dictionaries(st.sampled_from(["stalls", "ä", "kind"]), json_values)),
    )


@given(several=st.lists(samples(), max_size=5, unique_by=lambda sample: sample.key))
def test_what_is_written_is_read(several: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("samples") / "all.jsonl"
    write_samples(path, several)
    assert read_samples(path) == several
    assert [child.name for child in path.parent.iterdir()] == ["all.jsonl"]


def test_a_sample_says_no_more_than_it_knows(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('\n{"id": 7, "media": "a.PNG", "stalls": [1, 2]}\n')
    (sample,) = read_samples(path)
    assert sample == Sample("7", "own", (Media("a.PNG", "image"),), columns={"stalls": [1, 2]})
    write_samples(path, [sample])
    assert json.loads(path.read_text()) == {
        "id": "7", "dataset": "own", "media": ["a.PNG"], "task": "score", "stalls": [1, 2],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"id": "a"}, "no media"),
        ({"media": "a.mp4"}, "needs an id"),
        ({"id": "a", "media": []}, "0 media"),
        ({"id": "a", "media": ["a", "b", "c"]}, "3 media"),
        ({"id": "a", "media": [3]}, "the medium 3 is neither"),
        ({"id": "a", "media": [{"path": "a", "kind": "sound"}]}, "of kind 'sound'"),
        ({"id": "a", "media": "a.mp4", "target": "3"}, "target is '3': expected float"),
        ({"id": "a", "media": "a.mp4", "target": float("nan")}, "leave it out where it is not known"),
        ({"id": "a", "media": "a.mp4", "levels": [0.5, 0.6, 0, 0, 0]}, "expected five probabilities"),
        ({"id": "a", "media": "a.mp4", "preference": 1}, "and two media"),
        ({"id": "a", "media": "a.mp4", "options": ["x"], "correct": 1}, "there are 1 options"),
        ({"id": "a", "media": "a.mp4", "options": "x"}, "options is 'x': expected a list"),
        ({"id": "a", "media": "a.mp4", "correct": True, "options": ["x", "y"]}, "correct is True"),
        (["a"], "no JSON object"),
    ],
)
def test_a_row_that_cannot_be_is_named(
    values: Any,  # noqa: ANN401  what a file may hold
    message: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"id": "first", "media": "a.mp4"}\n' + json.dumps(values) + "\n")
    with pytest.raises(ValueError, match=rf"own.jsonl, line 2: .*{message}"):
        read_samples(path)


def test_an_id_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"id": "a", "media": "a.mp4"}\n{"id": "a", "media": "b.mp4", "dataset": "other"}\n')
    assert [sample.dataset for sample in read_samples(path)] == ["own", "other"]
    path.write_text('{"id": "a", "media": "a.mp4"}\n{"id": "a", "media": "b.mp4"}\n')
    with pytest.raises(ValueError, match="line 2: the id 'a' is in line 1 already"):
        read_samples(path)


def test_a_column_may_not_hide_an_attribute(tmp_path: Path) -> None:
    sample = Sample("a", "d", (Media("a.mp4"),), columns={"media": 1})
    with pytest.raises(ValueError, match="'media' has the name of an attribute"):
        write_samples(tmp_path / "a.jsonl", [sample])
    assert not list(tmp_path.iterdir())


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"id": "a", "media": "a.mp4", "target": 3}\n', encoding="utf-8-sig")
    assert [sample.id for sample in read_samples(path)] == ["a"]
    assert load_labels(path)["target"][:] == [3.0]
    path.write_text('{"id": "a", "media": "a.mp4", "target": 3}\n', encoding="utf-16")
    assert load_labels(path)["video_id"][:] == ["a"]
