"""A prompt is five texts, replaced one by one or by a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vqathinker.prompts import SCORE_QUESTION, Prompt


def test_default_asks_for_both_blocks() -> None:
    assert Prompt().question == SCORE_QUESTION
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        assert tag in SCORE_QUESTION


def test_ask_replaces_only_the_question() -> None:
    prompt = Prompt(opening="Look. ", frame_label="F{number} ", motion_label="M ")
    assert prompt.ask("Why?") == Prompt("Look. ", "F{number} ", "M ", "Why?")
    assert prompt.question == SCORE_QUESTION


def test_dictionary_round_trip() -> None:
    prompt = Prompt("a", "b{number}", "c", "d", "e")
    assert prompt.to_dict() == {
        "opening": "a",
        "frame_label": "b{number}",
        "motion_label": "c",
        "question": "d",
        "separator": "e",
    }
    assert Prompt.from_dict(prompt.to_dict()) == prompt


@pytest.mark.parametrize("values", [{"questions": "Rate it."}, {"question": 3}, {"opening": None}])
def test_unknown_entries_are_named(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Prompt.from_dict(values)


@pytest.mark.parametrize("question", ["", " \n"])
def test_question_is_required(question: str) -> None:
    with pytest.raises(ValueError, match="question"):
        Prompt(question=question)


@pytest.mark.parametrize("label", ["Frame{n}: ", "Frame{}: ", "Frame{number"])
def test_frame_label_knows_only_the_number(label: str) -> None:
    with pytest.raises(ValueError, match="frame_label"):
        Prompt(frame_label=label)


def test_text_file_is_the_question(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("\n  Wie gut ist das Bild – von 1 bis 5?\n", encoding="utf-8")
    assert Prompt.from_file(path) == Prompt(question="Wie gut ist das Bild – von 1 bis 5?")


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_yaml_file_replaces_what_it_names(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"prompt.{suffix}"
    path.write_text('opening: "See: "\nquestion: Rate it.\n')
    assert Prompt.from_file(path) == Prompt(opening="See: ", question="Rate it.")


@pytest.mark.parametrize(
    "text", ["just a question", "- a\n- b\n", "score: 3\n", "", "question: [\n", "\tquestion: a"]
)
def test_other_yaml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prompt.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"prompt"):
        Prompt.from_file(path)
