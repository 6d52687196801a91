"""The one place that reads a choice from a response: a letter, the words of an option, yes or no.

A choice is read where the text says one thing and no other. What is empty, says two things, or says neither
has none, and counts as wrong: neither the first letter of a text nor a part of one is a choice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

ANSWER_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
OPEN_THOUGHT = re.compile(r"<think>", re.IGNORECASE)
BOXED = re.compile(r"\\boxed\s*\{(?:\\text\s*\{)?([^{}]*)\}?\}")
MARKUP = re.compile(r"[*_`#$\u200b\u200e\u200f\ufeff]+")
EDGES = " \t\r\n.,;:!?'\"()[]{}<>|~-–—。，、；：！？「」『』“”‘’"
SPACE = re.compile(r"\s+")
SENTENCE_END = re.compile(r"[.\n。;]")

# what states an answer, wherever it stands; the last one counts
STATED = re.compile(
    r"\b(?:answer|choice|option)\s*(?:(?:is|would be|must be|should be)\s*:?|[:=-])\s*"
    r"|(?:答案|选项)(?:应该|应当)?(?:是|为|选)?\s*:?\s*(?:是(?=\S))?"
    r"|(?:应|我|应该|所以|因此)选择?\s*",
    re.IGNORECASE,
)
# what stands before an answer and says nothing of it
LEAD = re.compile(
    r"^(?:so|thus|therefore|hence|well|sure|okay|ok|certainly|of course)[,.:!]?\s+", re.IGNORECASE
)
CHOSEN = re.compile(
    r"^(?:i\s+(?:would\s+)?(?:choose|pick|select|say|think|believe)(?:\s+(?:that\s+)?it(?:'s| is))?|"
    r"it(?:'s| is)|this is|that is|是|选择|选)\s*",
    re.IGNORECASE,
)
NAMED = re.compile(r"^(?:the\s+)?(?:option|choice|letter|选项)\s*:?\s*", re.IGNORECASE)

# a letter that stands for an option: marked, at the start of a line of its own, or with its reason
MARKED = re.compile(
    r"[\(\[](?P<framed>[A-Za-z])[\)\]]\s*[.:,]?\s*"
    r"|(?P<dotted>[A-Za-z])\s*[.):,、]\s*"
    r"|(?P<lined>[A-Z])(?:\s+[-–—]|\s*\n)\s*"
    r"|(?P<reasoned>[A-Z])\s+(?:is|as|because|since)\b(?!\s+(?:not|wrong|incorrect))"
)
JOINED = re.compile(
    r"^(?:and|or|/|&|和|或|与)|^[(\[]?[A-Za-z](?:[)\]]|\b(?!['’]))\W*(?:$|and\b|or\b)", re.IGNORECASE
)
REFUSED = re.compile(r"^(?:is\s+|are\s+)?(?:not|wrong|incorrect|错误|不对)", re.IGNORECASE)
OTHER_MARKED = re.compile(r"(?<![A-Za-z])[\(\[]?([A-Z])[.)\]](?![A-Za-z])")
OWN_LABEL = re.compile(r"^[\(\[]?[A-Z][.):]\s+")  # of an option that is given with its letter

YES_WORDS = ("yes", "yeah", "yep", "是的", "是", "对", "有", "存在")
NO_WORDS = ("no", "nope", "不是", "没有", "不存在", "否", "不", "无")
YES_OR_NO = re.compile(rf"({'|'.join(YES_WORDS + NO_WORDS)})(?![A-Za-z]|['’][A-Za-z])", re.IGNORECASE)
BETWEEN = re.compile(r"(?:and|or|but|wait|actually|和|或|还是)*\W*", re.IGNORECASE)
NO_ANSWER = re.compile(
    r"no\s+(?:idea|answer|comment|information|clue)|不(?:知道|确定|清楚)|无法|没有答案", re.IGNORECASE
)


def said(text: str) -> str:
    """What a response answers: its answer block, else what follows its thoughts; without markup.

    Nothing where it has several answer blocks, or a thought that does not end.

    >>> said("<think>Grain in the dark.</think> **B**")
    'B'
    """
    blocks = ANSWER_BLOCK.findall(text)
    if len(blocks) > 1:
        return ""
    answer = blocks[0] if blocks else THOUGHT.sub("", text)
    if not blocks and OPEN_THOUGHT.search(answer):
        return ""
    # full-width letters and brackets become plain ones
    plain = unicodedata.normalize("NFKC", answer)
    return MARKUP.sub("", BOXED.sub(r"\1", plain)).strip()


def parse_choice(text: str, options: Sequence[str]) -> int | None:
    """Which option a response chooses, from 0; None where it chooses none, or more than one.

    Read are a letter alone or marked as one ("B", "(B)", "B. noise", "The answer is B"), and an option's
    words as the whole of the answer. A letter whose words are another option's is none.

    Args:
        text: the response.
        options: the texts to choose from, the first of which has the letter A.

    >>> options = ["blur", "noise", "Yes"]
    >>> parse_choice("The answer is (B).", options), parse_choice("noise", options)
    (1, 1)
    >>> parse_choice("A blurry video.", options), parse_choice("A or B", options), parse_choice("", options)
    (None, None, None)
    """
    answer = said(text)
    names = [_words(OWN_LABEL.sub("", option)) for option in options]
    statements = list(STATED.finditer(answer))
    return _choice(answer[statements[-1].end() :] if statements else answer, names)


def parse_yes_no(text: str) -> bool | None:
    """Whether a response says yes; None where it says neither, or both.

    Read is the word that an answer begins with, or that it states ("The answer is no").

    >>> parse_yes_no("Yes, there is blur."), parse_yes_no("**No**"), parse_yes_no("Yes and no")
    (True, False, None)
    """
    answer = said(text)
    statements = list(STATED.finditer(answer))
    start = answer[statements[-1].end() :] if statements else answer
    start = LEAD.sub("", start).lstrip(EDGES)
    match = YES_OR_NO.match(start)
    if match is None or NO_ANSWER.match(start):
        return None
    # "yes or no", "no, wait, yes": another word follows, and nothing after it
    rest = start[match.end() :].strip(EDGES)
    other = YES_OR_NO.fullmatch(BETWEEN.sub("", rest, count=1))
    is_yes = match[1].lower() in YES_WORDS
    if other is not None and (other[1].lower() in YES_WORDS) != is_yes:
        return None
    return is_yes


def _words(text: str) -> str:
    """A text without what may differ where it is the same: capitals, spaces, what stands around it."""
    plain = MARKUP.sub("", unicodedata.normalize("NFKC", text))
    return SPACE.sub(" ", plain).strip(EDGES).casefold()


def _choice(answer: str, names: Sequence[str]) -> int | None:
    """The option that an answer names, by its words or its letter."""
    whole = _words(answer)
    if whole in names:
        return names.index(whole)
    bare = LEAD.sub("", answer.strip())
    if {"yes", "no"} <= set(names) and YES_OR_NO.match(bare.lstrip(EDGES)):
        is_yes = parse_yes_no(bare)
        return None if is_yes is None else names.index("yes" if is_yes else "no")
    # "so, I would choose option B"
    bare = NAMED.sub("", CHOSEN.sub("", bare))
    for words in (_words(bare), _words(SENTENCE_END.split(bare, maxsplit=1)[0])):
        if words in names:
            return names.index(words)
    return _by_letter(bare, names)


def _by_letter(text: str, names: Sequence[str]) -> int | None:
    """The option whose letter a text is, or begins with where it is marked as one."""
    alone = _words(text)
    if len(alone) == 1:
        return _place(alone, names)
    marked = MARKED.match(text)
    if marked is None:
        return None
    letter = next(group for group in marked.groups() if group)
    rest = text[marked.end() :]
    if JOINED.match(rest) or REFUSED.match(rest):
        return None
    place = _place(letter, names)
    words = (_words(rest), _words(SENTENCE_END.split(rest, maxsplit=1)[0]))
    for name in words:
        if name in names:  # nothing where they are another option's
            return place if place is not None and names[place] == name else None
    others = {_place(other, names) for other in OTHER_MARKED.findall(rest)} - {place, None}
    return None if others else place


def _place(letter: str, names: Sequence[str]) -> int | None:
    """The option of a letter, None if there is none."""
    place = ord(letter.upper()) - ord("A")
    return place if 0 <= place < len(names) else None


def named(text: str, severities: Sequence[str]) -> tuple[str, str]:
    """The severity and the kind of distortion that a response names, in small letters.

    Args:
        text: the response.
        severities: words that may stand before a kind.

    >>> named("<answer>Very severe Gaussian blur.</answer>", ["severe", "very severe"])
    ('very severe', 'gaussian blur')
    >>> named("noise", ["severe"])
    ('', 'noise')
    """
    words = _words(said(text))
    for severity in sorted(severities, key=len, reverse=True):
        if words.startswith(f"{severity} "):
            return severity, words.removeprefix(f"{severity} ")
    return "", words
