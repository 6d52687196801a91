"""Forms of answers with the verdict that a person gives them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker.choices import parse_choice, parse_yes_no, said

KINDS = ("Blur", "Noise", "Overexposure", "Video quality is good")
ARTICLES = ("A blurry picture", "A sharp picture")
YES_NO = ("Yes", "No")
CHINESE = ("模糊", "噪声", "过曝", "抖动")
A = 0
B = 1
C = 2
D = 3

# of one letter among four
LETTERS = {
    "B": B, "b": B, "B.": B, "(B)": B, "(b)": B, "[B]": B, "B)": B, "b)": B, "{B}": B, "'B'": B, '"B"': B,
    " B ": B, "\nB\n": B, "B,": B, "B:": B, "B;": B, "B!": B, "**B**": B, "**B.**": B, "__B__": B, "`B`": B,
    "$B$": B, "# B": B, "[[B]]": B, r"\boxed{B}": B, r"$\boxed{\text{B}}$": B, "Ｂ": B, "（Ｂ）": B, "B。": B,
    "“B”": B, "「B」": B, "B、": B, "B\u200b": B,
    "B. Noise": B, "B) Noise": B, "(B) Noise": B, "B: Noise": B, "B - Noise": B, "B – Noise": B,
    "b. noise": B,
    "B. noise.": B, "**B. Noise**": B, "**B**. Noise": B, "B.Noise": B, "B, Noise": B, "[B] Noise": B,
    "B\nNoise": B, "B.\n\nThe grain in the sky is plain to see.": B,
    "B\n\nThe dark parts are full of grain.": B,
    "B. Noise\n\nThe sky is full of grain.": B, "B. Noise. The sky is full of grain.": B,
    "B. The dark parts are full of grain.": B, "(B) since the sky is full of grain": B,
    "B because the sky is full of grain": B, "B is the best choice.": B, "B is correct.": B,
    "A": A, "A.": A, "A. Blur": A, "A is correct.": A, "C": C, "C) Overexposure": C, "d": D, "D.": D,
    "D. Video quality is good": D,
}  # fmt: skip

STATED = {
    "The answer is B": B, "The answer is B.": B, "The answer is (B).": B, "The answer is: B": B,
    "Answer: B": B,
    "answer: b": B, "Answer: (B)": B, "**Answer:** B": B, "**Answer: B**": B, "Answer = B": B,
    "Answer - B": B,
    "The correct answer is B.": B, "The correct answer is option B.": B, "The best answer is B. Noise": B,
    "My answer is B.": B, "The final answer is B.": B, "Final answer: B": B, "The correct option is B.": B,
    "The correct choice is (B) Noise.": B, "The answer is Noise.": B, "The answer is noise": B,
    "Answer: Noise": B, "The answer would be B.": B, "The answer should be B.": B, "So, the answer is B.": B,
    "Therefore, the answer is B.": B, "Option B": B, "Option B.": B, "option b": B, "Option (B)": B,
    "Option B: Noise": B, "Option B is correct.": B, "Choice B": B, "Letter B": B, "I choose B.": B,
    "I would choose B": B, "I would pick option B.": B, "I would say B.": B, "I think it is B.": B,
    "It is B.": B,
    "It's B": B, "It is noise.": B, "This is noise.": B, "I would say noise": B, "So, B.": B,
    "Well, noise.": B,
    "Sure! B": B, "Certainly: B.": B,
    "The sky is full of grain, so the answer is B.": B,
    "A shows in the first second alone. The answer is B.": B,
    "A) is wrong, since edges are sharp.\nThe answer is B.": B,
    "Edges are sharp. There is grain.\n\nAnswer: B": B,
    "Edges are sharp. There is grain.\n\n**Final Answer: B. Noise**": B,
    "The answer is A. No, I was wrong: the answer is B.": B,
    "<think>A or B? Grain.</think><answer>B</answer>": B, "<think>A</think> <answer> B. Noise </answer>": B,
    "<think>A or B? Grain.</think>B": B, "<think>\nGrain.\n</think>\n\nThe answer is B.": B,
    "The answer is B, not A.": B, "The answer is B. The other choice is wrong.": B,
    "The answer is most likely B": B,
    "I'd go with B": B, "I would go for B.": B, "B is the answer.": B, "Ans: B": B, "Probably B": B,
    "Most likely B.": B,
    "I think the answer is B because of the grain.": B, "B, because the sky is full of grain": B,
    "Option (B) looks right": B, "My choice: B": B, "I believe the correct option is B.": B,
    "Grain in the sky.</think> B": B, "grain</think><answer>B</answer>": B, "B, not A": B,
    "<answer>B</answer>": B, "<ANSWER>B</ANSWER>": B, "<think>B</think><answer>noise</answer>": B,
}  # fmt: skip

WORDS = {
    "Noise": B, "noise": B, "NOISE": B, "noise.": B, "Noise!": B, " noise ": B, "**Noise**": B, "'noise'": B,
    "Noise\nThe sky is full of grain.": B, "Blur": A, "overexposure": C, "Overexposure.": C,
    "video quality is good": D, "Video quality is good.": D, "Video  quality is\ngood": D,
}  # fmt: skip

NEITHER = (
    "", " ", "\n", ".", "?", "-", "**", "<answer></answer>", "<think>B</think>", "<think>The answer is B.",
    "E", "E.", "(E)", "The answer is E.", "Z. Noise", "F) Overexposure", "AB", "BC", "Bb",
    "A and B", "A or B", "A, B", "A/B", "A & B", "A、B", "Both A and B", "A. or B.", "A) and B)",
    "(A) or (B)",
    "A和B", "Either A or B.", "A, B and C", "All of the above", "None of the above", "Neither.",
    "Neither A nor B",
    "Both", "Neither", "All", "None", "The answer is A or B.", "The answer is A and B.",
    "The answer is either A or B.", "Answer: A, B",
    "I don't know.", "I do not know", "I cannot tell.", "I can't see the video.", "Sorry, I cannot answer.",
    "As a language model I cannot watch videos.", "It depends.", "Unclear", "Not sure", "N/A", "n/a",
    "A video of a street.", "A lot of grain can be seen.", "Be careful.", "Both seem right.",
    "Clearly noise-free.",
    "Blurred", "Noisy", "No noise", "Not noise", "It is not noise.", "There is no noise in it.", "Not B",
    "Not B.",
    "It is not B.", "The answer is not B.", "B is wrong.", "B is not correct.", "Noise or blur",
    "noise, blur",
    "Blur and noise", "B. Blur", "(A) Noise", "The answer is B. Blur", "3", "2.5", "<answer>3.42</answer>",
    "<answer>A</answer><answer>B</answer>", "The video quality is good", "Good",
    "A is sharp while B is blurry", "A is noisy and B is clean, so B", "A is blurry.", "A is the worse one",
    "E.g. the sky is full of noise.", "e.g. noise", "a, well lit video", "A.I. generated", "A: yes, B: no",
    "A, B, C",
    "Answer: A,B,C", "B,C,D", "B, maybe C", "The wrong answer is A.", "I think the least likely answer is C",
    "A. is wrong.", "B) is incorrect, C) is right or D) is.",
    "The noise of the camera lets the picture suffer.",
)  # fmt: skip

YES = (
    "Yes", "yes", "YES", "Yes.", "yes!", "[Yes]", "[yes].", "(Yes)", "'Yes'", '"Yes"', "**Yes**", "**Yes.**",
    "Yes, there is.", "Yes, there is blur in the video.", "Yes - blur.", "Yes\nThere is blur.", "Yes; blur",
    "Yes, and no artifact besides.", "Yes. No other fault is there.", "Yeah", "Yep", "The answer is yes.",
    "The answer is [Yes].", "Answer: Yes", "Answer: yes, there is blur", "So, yes.", "Well, yes",
    "<answer>Yes</answer>", "<think>No grain. But blur.</think><answer>Yes</answer>",
    "<think>Is there blur? No. Or yes.</think>Yes", "是", "是的", "是的。", "有", "有。", "答案是：是",
    "答案：有",
    "Ｙｅｓ", "Yes, no doubt about it.", "Sure, yes.", "Definitely yes", "Absolutely, yes.",
)  # fmt: skip

NO = (
    "No", "no", "NO", "No.", "no!", "[No]", "[no].", "(No)", "'No'", "**No**", "No, there is not.",
    "No, there is no blur.", "No - it is sharp.", "No\nIt is sharp.", "No; sharp", "Nope",
    "The answer is no.",
    "The answer is [No].", "Answer: No", "Final answer: No.", "So, no.", "<answer>No</answer>",
    "<think>Yes?</think><answer>No</answer>", "否", "否。", "没有", "没有。", "不是", "无", "答案是：否",
    "答案：没有",
    "yes</think>No", "I think no", "No, not at all.", "Clearly no.", "No, the yes-men are wrong.",
)  # fmt: skip

NEITHER_YES_NOR_NO = (
    "", " ", "[]", "Maybe", "Perhaps.", "Yes and no", "Yes or no", "Yes/No", "yes / no", "No and yes.",
    "Both",
    "No, wait, yes.", "Yes... no", "Yes. No.", "Not sure", "Not really clear", "Nothing", "None", "Noise",
    "Yesterday",
    "No idea", "No idea.", "No answer", "No comment", "I don't know", "I cannot tell.", "It depends.",
    "Unknown",
    "Nobody can say.", "Northern light", "<answer></answer>", "<think>Yes</think>", "<think>yes",
    "<answer>Yes</answer><answer>No</answer>", "There is no blur.", "Sorry, no video was given.", "A", "3",
    "No doubt, yes", "No. Yes, there is.", "No noise is visible, so yes", "No way to tell", "对比度低",
    "是否有模糊", "不错", "Definitely not sure", "是不是", "是否", "不知道", "不确定", "无法判断", "是还是否",
    "The answer is unclear.",
)  # fmt: skip


def cases() -> dict[str, int | None]:
    return {**LETTERS, **STATED, **WORDS, **dict.fromkeys(NEITHER)}


@pytest.mark.parametrize(("text", "choice"), cases().items())
def test_one_of_four(text: str, choice: int | None) -> None:
    assert parse_choice(text, KINDS) == choice


def test_there_are_enough_forms() -> None:
    both = [*YES, *NO, *NEITHER_YES_NOR_NO]
    assert len(cases()) >= 200
    assert len(set(both)) >= 100


@pytest.mark.parametrize("text", YES)
def test_yes(text: str) -> None:
    assert parse_yes_no(text) is True
    assert parse_choice(text, YES_NO) == A


@pytest.mark.parametrize("text", NO)
def test_no(text: str) -> None:
    assert parse_yes_no(text) is False
    assert parse_choice(text, YES_NO) == B


@pytest.mark.parametrize("text", NEITHER_YES_NOR_NO)
def test_neither_yes_nor_no(text: str) -> None:
    assert parse_yes_no(text) is None
    if text != "A":
        assert parse_choice(text, YES_NO) is None


@pytest.mark.parametrize(
    ("text", "choice"),
    {
        "A": A, "B": B, "B. No": B, "A. Yes": A, "A. No": None, "B. Yes": None, "(B) No, it is sharp.": B,
        "The answer is B.": B, "Answer: A. Yes": A,
    }.items(),
)  # fmt: skip
def test_letters_of_yes_and_no(text: str, choice: int | None) -> None:
    assert parse_choice(text, YES_NO) == choice


@pytest.mark.parametrize(
    ("text", "choice"),
    {
        "A blurry picture": A, "A blurry picture.": A, "A. A blurry picture": A, "B. A sharp picture": B,
        "A sharp picture": B, "A": A, "A picture": None, "A. A sharp picture": None, "a sharp picture": B,
    }.items(),
)  # fmt: skip
def test_options_that_begin_with_an_article(text: str, choice: int | None) -> None:
    assert parse_choice(text, ARTICLES) == choice


@pytest.mark.parametrize(
    ("text", "choice"),
    {
        "B": B, "选B": B, "选 B": B, "选项B": B, "选择B": B, "答案是B": B, "答案是B。": B, "答案：B": B,
        "答案为B": B,
        "正确答案是B": B, "正确答案是：B. 噪声": B, "应选B": B, "我选B": B, "所以选B": B, "噪声": B,
        "噪声。": B,
        "是噪声": B, "答案是噪声": B, "B. 噪声": B, "B、噪声": B, "（B）噪声": B, "B，因为画面有噪点": B,
        "不是B": None,
        "B选项": B, "选择B选项。": B, "我认为是B": B, "应该是B": B, "我觉得应该是噪声": B, "B. 模糊": None,
        "A和B": None, "A或B": None, "都是": None, "不知道": None, "没有噪声": None, "": None,
    }.items(),
)  # fmt: skip
def test_chinese(text: str, choice: int | None) -> None:
    assert parse_choice(text, CHINESE) == choice


def test_an_empty_option_is_no_answer() -> None:
    assert parse_choice("", ["Yes", "No", "", ""]) is None
    assert parse_choice("...", ["blur", "noise", ""]) is None


def test_options_with_their_letters() -> None:
    assert parse_choice("noise", ["A. blur", "B. noise"]) == B


@given(st.text(max_size=60))
def test_any_text_has_one_choice_or_none(text: str) -> None:
    assert parse_choice(text, KINDS) in {A, B, C, D, None}
    assert parse_yes_no(text) in {True, False, None}


@given(st.text(alphabet=" \t\n.,;:!?*_`#()[]{}<>-", max_size=20))
def test_a_text_without_words_chooses_nothing(text: str) -> None:
    assert parse_choice(text, KINDS) is None
    assert parse_yes_no(text) is None


def test_an_answer_is_what_stands_in_its_block() -> None:
    assert said("<think>x</think> <answer> **B** </answer>") == "B"
    assert said("<think>x") == ""
