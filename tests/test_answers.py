"""What has a score and what has none."""

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vqathinker import answers

FORM = "<think>some blur</think><answer>{}</answer>"
SLOW_REASONING = (
    r"(?:(?!</?(?:think|answer)>).)*"  # one character at a time; says what the fast pattern means
)
SLOW_RESPONSE = re.compile(
    rf"\s*<think>(?P<reasoning>{SLOW_REASONING})</think>\s*{answers.ANSWER_BLOCK}\s*", re.DOTALL
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")

pieces = st.sampled_from([*TAGS, " ", "\n", "3.50", "4", "-1", ".", ",", "nan", "1e5", "٣", "good"])


@pytest.mark.parametrize(
    ("written", "score", "num_decimals"),
    [
        ("3.42", 3.42, 2),
        ("3.50", 3.5, 2),
        ("3.5", 3.5, 1),
        ("3", 3.0, 0),
        ("3.", 3.0, 0),
        (".5", 0.5, 1),
        ("+4.00", 4.0, 2),
        ("-2.25", -2.25, 2),
        ("87.125", 87.125, 3),
        ("007", 7.0, 0),
    ],
)
def test_a_decimal_number_is_a_score(written: str, score: float, num_decimals: int) -> None:
    answer = answers.parse(FORM.format(f" \n{written}\t"))
    assert answer == answers.Answer(score, "some blur", written)
    assert answer.num_decimals == num_decimals


@pytest.mark.parametrize(
    "content",
    [
        "",
        " ",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "Infinity",
        "1e5",
        "1E-2",
        "3,5",
        "1,000",
        "1_000",
        "0x3",
        ".",
        "+",
        "+-3",
        "--3",
        "- 3",
        "3.4.5",
        "3 4",
        "3.5 4.5",
        "3.5/5",
        "3.5 out of 5",
        "about 3.5",
        "3.5%",
        "$3.5$",
        "**3.5**",
        "٣",
        "３.５",
        "3٫5",
        "²",
        "½",
        "Ⅲ",
        "three",
        "9" * 400,
    ],
)
def test_anything_else_in_the_answer_is_no_score(content: str) -> None:
    for think in (True, False):
        assert answers.parse(FORM.format(content), think=think) is None
        assert answers.parse(f"<answer>{content}</answer>", think=think) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3.5",
        "The quality is 3.5.",
        "<think>blur</think>",
        "<think>blur</think>3.5",
        "<think>the score is 3.5</think><answer></answer>",
        "<answer>3.5</answer><think>blur</think>",
        "<think>blur</think><answer>3.5</answer> as I said",
        "Well: <think>blur</think><answer>3.5</answer>",
        "<think>blur</think> so <answer>3.5</answer>",
        "<think>blur</think><answer>3.5</answer><answer>3.5</answer>",
        "<think>a</think><think>b</think><answer>3.5</answer>",
        "<think>a</think><answer>3</answer><think>b</think><answer>4</answer>",
        "<think><think>a</think></think><answer>3.5</answer>",
        "<think>a <answer>2</answer></think><answer>3.5</answer>",
        "<think>a</think><answer><answer>3.5</answer></answer>",
        "<think>a</think><answer><think>b</think>3.5</answer>",
        "<think>a <think><answer>3.5</answer>",
        "<think>a<answer>3.5</answer>",
        "<think>a</think><answer>3.5",
        "<think>a</think>answer>3.5</answer>",
        "<Think>a</Think><Answer>3.5</Answer>",
        "< think >a</ think ><answer>3.5</answer>",
        "<think>a</think><answer score>3.5</answer>",
        "<think>a</think><answer>3.5</answer><|im_end|>",
    ],
)
def test_any_other_form_has_no_score(text: str) -> None:
    assert answers.parse(text) is None
    assert math.isnan(answers.score(text))


def test_white_space_may_stand_around_the_blocks() -> None:
    answer = answers.parse("\n <think>\n two\nlines \n</think>\n\n<answer>\n3.5\n</answer>\n ")
    assert answer == answers.Answer(3.5, "two\nlines", "3.5")


def test_other_tags_and_numbers_are_part_of_the_reasoning() -> None:
    answer = answers.parse("<think>5 < 7, <b>2.0</b>, 1e5</think><answer>3.5</answer>")
    assert answer is not None
    assert (answer.score, answer.reasoning) == (3.5, "5 < 7, <b>2.0</b>, 1e5")


def test_without_thinking_an_answer_alone_is_enough() -> None:
    alone = " <answer> 3.5 </answer> "
    assert answers.parse(alone) is None
    assert answers.parse(alone, think=False) == answers.Answer(3.5, "", "3.5")
    assert answers.parse("<think>a</think><answer>3.5</answer>", think=False) == answers.Answer(
        3.5, "a", "3.5"
    )
    assert answers.parse("so <answer>3.5</answer>", think=False) is None
    assert answers.parse("<answer>3</answer><answer>3</answer>", think=False) is None


@given(st.one_of(st.text(), st.lists(pieces, max_size=12).map("".join)), st.booleans())
@example("\x00\ud800", True)
@example("<think>" * 2000, True)
def test_no_text_raises(text: str, think: bool) -> None:
    answer = answers.parse(text, think=think)
    score = answers.score(text, think=think)
    if answer is None:
        assert math.isnan(score)
    else:
        assert math.isfinite(score)
        assert score == answer.score == float(answer.written)
        assert answer.written.isascii()
        assert text.count("<answer>") == text.count("</answer>") == 1
        assert text.count("<think>") == text.count("</think>") <= 1
        assert not think or "<think>" in text


@given(
    st.lists(st.sampled_from([*TAGS, "<", "</", ">", "think>", "<b>", "\n", "3", "a"]), max_size=12).map(
        "".join
    ),
    st.booleans(),
)
def test_reasoning_is_any_text_without_a_tag(text: str, wrapped: bool) -> None:
    if wrapped:
        text = FORM.replace("some blur", text).format(3)
    fast, slow = answers.RESPONSE.fullmatch(text), SLOW_RESPONSE.fullmatch(text)
    assert (fast and fast.groupdict()) == (slow and slow.groupdict())


@given(
    st.text().filter(lambda text: not any(tag in text for tag in TAGS)),
    st.floats(-1e6, 1e6),
)
def test_what_is_rendered_is_read_back(reasoning: str, score: float) -> None:
    answer = answers.parse(answers.render(reasoning, score))
    assert answer is not None
    assert answer.score == pytest.approx(score, abs=0.00501)
    assert answer.reasoning == reasoning.strip()
    assert answer.num_decimals == 2
    assert answers.parse(answers.render(answer.reasoning, answer.score)) == answer


@given(st.sampled_from(TAGS), st.integers(0, 200))
def test_a_further_tag_anywhere_spoils_the_response(tag: str, position: int) -> None:
    text = answers.render("a slow pan over a lake, slight noise", 3.5)
    position = min(position, len(text))
    assert answers.parse(text[:position] + tag + text[position:]) is None
