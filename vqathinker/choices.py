"""The one place that reads a choice from a response: a letter, the words of an option, yes or no.

A choice is read where the text says one thing and no other. What is empty, says two things, or says neither
has none, and counts as wrong: neither the first letter of a text nor a part of one is a choice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from string import ascii_uppercase

ANSWER_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
THOUGHT = re.compile(r".*</think>", re.DOTALL | re.IGNORECASE)  # its opening may stand in the prompt
OPEN_THOUGHT = re.compile(r"<think>", re.IGNORECASE)
BOXED = re.compile(r"\\boxed\s*\{(?:\\text\s*\{)?([^{}]*)\}?\}")
MARKUP = re.compile(r"[*_`#$\u200b\u200e\u200f\ufeff]+")
EDGES = " \t\r\n.,;:!?'\"()[]{}<>|~-–—。，、；：！？「」『』“”‘’"
SPACE = re.compile(r"\s+")
SENTENCE_END = re.compile(r"[.\n。;]")

# what states an answer, wherever it stands; the last one counts
STATED = re.compile(
    r"\b(?:ans|answer|choice|option)\s*(?:(?:is|would be|must be|should be)\s*:?|[:=-])\s*"
    r"(?:(?:most likely|likely|probably|clearly|definitely)\s+)?"
    r"|(?:答案|选项)(?:应该|应当)?(?:是|为|选)?\s*:?\s*(?:是(?=\S))?"
    r"|(?:应|我|应该|所以|因此)选择?\s*",
    re.IGNORECASE,
)
STATED_OTHERWISE = re.compile(r"(?:wrong|incorrect|other|false|worst|least(?:\s+\w+)?)\s+$", re.IGNORECASE)
# what stands before an answer and says nothing of it
LEAD = re.compile(
    r"^(?:so|thus|therefore|hence|well|sure|okay|ok|certainly|of course|definitely|absolutely|clearly|"
    r"obviously|probably|most likely)[,.:!]?\s+",
    re.IGNORECASE,
)
CHOSEN = re.compile(
    r"^(?:i(?:'d|\s+would)?\s+(?:choose|pick|select|say|think|believe|go\s+(?:with|for))"
    r"(?:\s+(?:that\s+)?it(?:'s| is))?|it(?:'s| is)|this is|that is|"
    r"(?:我(?:认为|觉得))?(?:应该)?是(?=[^的否不])|选择|选)\s*",
    re.IGNORECASE,
)
NAMED = re.compile(r"^(?:the\s+)?(?:option|choice|letter|选项)\s*:?\s*", re.IGNORECASE)
CALLED = re.compile(r"(?<=[A-H])\s*选项[。.]?\s*$")  # "B选项"
NOT_THE_OTHER = re.compile(r",?\s*(?:and\s+)?not\s+(?:option\s+)?[\(\[]?[A-Z][\)\]]?(?=\W*$)", re.IGNORECASE)

# a letter that stands for an option: marked, at the start of a line of its own, or with its reason
MARKED = re.compile(
    r"[\(\[](?P<framed>[A-Za-z])[\)\]]\s*[.:,]?\s*"
    r"|(?P<dotted>[A-Za-z])\s*[.):、](?!\s*[A-Za-z][.):,])\s*"  # neither "e.g." nor "A.I."
    r"|(?P<parted>[A-Z])\s*,\s*"
    r"|(?P<lined>[A-Z])(?:\s+[-–—]|\s*\n)\s*"
    r"|(?P<reasoned>[A-Z])\s+(?:is\s+(?:the\s+)?(?:most\s+)?(?:correct|right|best|better|accurate|answer)|because|as|since)\b"
)
JOINED = re.compile(r"^(?:and|or|/|&|和|或|与)", re.IGNORECASE)
REFUSED = re.compile(r"^(?:is\s+|are\s+)?(?:not|wrong|incorrect|错误|不对)", re.IGNORECASE)
OTHER_LETTER = re.compile(r"(?<![A-Za-z'’])(?:[\(\[]?([A-Z])[.):\]]|([B-H]))(?![A-Za-z'’])")
OWN_LABEL = re.compile(r"^[\(\[]?[A-Z][.):]\s+")  # of an option that is given with its letter

YES_NO = ("Yes", "No")  # as options
YES_WORDS = ("yes", "yeah", "yep", "是的", "是", "对", "有", "存在")
NO_WORDS = ("no", "nope", "不是", "没有", "不存在", "否", "不", "无")
YES_OR_NO = re.compile(
    rf"({'|'.join(YES_WORDS + NO_WORDS)})(?![A-Za-z\u4e00-\u9fff]|['’][A-Za-z])", re.IGNORECASE
)
# "no" before other words says that something is absent, or nothing: "no noise", "no idea"
AFTER_NO = re.compile(r"\s+(?!(?:there|it|its|the|this|that|not|i|we|they)\b)[A-Za-z]", re.IGNORECASE)
CLAUSE_END = re.compile(
    r"[.!?;,。，；!？\n/]|\b(?:and|or|but|so|then|wait|actually)\b|和|或|还是", re.IGNORECASE
)


def said(text: str) -> str:
    """What a response answers: its answer block, else what follows its thoughts; without markup.

    Nothing where it has several answer blocks, or a thought that does not end.

    >>> said("<think>Grain in the dark.</think> **B**")
    'B'
    """
    rest = THOUGHT.sub("", text)
    blocks = ANSWER_BLOCK.findall(rest)
    if len(blocks) > 1 or (not blocks and OPEN_THOUGHT.search(rest)):
        return ""
    # full-width letters and brackets become plain ones
    plain = unicodedata.normalize("NFKC", blocks[0] if blocks else rest)
    return MARKUP.sub("", BOXED.sub(r"\1", plain)).strip()


def lettered(place: int, option: str) -> str:
    """An option with its letter.

    >>> lettered(1, "fair")
    'B. fair'
    """
    return f"{ascii_uppercase[place]}. {option}"


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
    names = [_words(OWN_LABEL.sub("", option)) for option in options]
    return _choice(_stated(CALLED.sub("", said(text))), names)


def parse_yes_no(text: str) -> bool | None:
    """Whether a response says yes; None where it says neither, or both.

    Read is the word that an answer begins with, or that it states ("The answer is no").

    >>> parse_yes_no("Yes, there is blur."), parse_yes_no("**No**"), parse_yes_no("Yes and no")
    (True, False, None)
    """
    start = CHOSEN.sub("", LEAD.sub("", _stated(said(text)).strip()))
    first = _yes_or_no(start)
    # "yes and no", "no. Yes, there is": a clause that says the contrary
    if any(found not in (None, first) for found in map(_yes_or_no, CLAUSE_END.split(start))):
        return None
    return first


def _yes_or_no(clause: str) -> bool | None:
    """What the word says that a clause begins with; None without such a word."""
    bare = clause.lstrip(EDGES)
    match = YES_OR_NO.match(bare)
    if match is None:
        return None
    is_yes = match[1].lower() in YES_WORDS
    return None if not is_yes and AFTER_NO.match(bare, match.end()) else is_yes


def _stated(answer: str) -> str:
    """What follows the last statement of an answer, all of it where there is none."""
    statements = [
        match for match in STATED.finditer(answer) if not STATED_OTHERWISE.search(answer, 0, match.start())
    ]
    return answer[statements[-1].end() :] if statements else answer


def _words(text: str) -> str:
    """A text without what may differ where it is the same: capitals, spaces, what stands around it."""
    plain = MARKUP.sub("", unicodedata.normalize("NFKC", text))
    return SPACE.sub(" ", plain).strip(EDGES).casefold()


def _choice(answer: str, names: Sequence[str]) -> int | None:
    """The option that an answer names, by its words or its letter."""
    whole = _words(answer)
    if not whole:
        return None
    if whole in names:
        return names.index(whole)
    bare = LEAD.sub("", answer.strip())
    if {"yes", "no"} <= set(names) and YES_OR_NO.match(bare.lstrip(EDGES)):
        is_yes = parse_yes_no(bare)
        return None if is_yes is None else names.index("yes" if is_yes else "no")
    # "so, I would choose option B, not A"
    bare = NOT_THE_OTHER.sub("", NAMED.sub("", CHOSEN.sub("", bare)))
    for words in (_words(bare), _words(SENTENCE_END.split(bare, maxsplit=1)[0])):
        if words and words in names:
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
    first = SENTENCE_END.split(rest, maxsplit=1)[0]
    for name in (_words(rest), _words(first)):
        if name and name in names:  # nothing where they are another option's
            return place if place is not None and names[place] == name else None
    found = [match[1] or match[2] for match in OTHER_LETTER.finditer(rest)]
    others = {_place(other, names) for other in found} - {place, None}
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
