"""Whether a question gives its own answer away."""

from __future__ import annotations

import re

# words that say nothing
SMALL = re.compile(
    r"a|an|and|are|as|at|be|by|do|does|for|from|has|have|how|in|is|it|its|of|on|or|that|the|there|this|to|was|"
    r"what|when|where|which|who|why|will|with|would|video|image|picture|quality"
)
MOST_SHARED = 0.8  # of the answer's words that may stand in the question


def gives_away(question: str, answer: str) -> bool:
    """Whether hardly anything of an open answer is new to one who has read the question.

    >>> gives_away("Is the severe camera shake severe?", "Severe camera shake.")
    True
    >>> gives_away("When does the camera shake?", "In the second half.")
    False
    """
    asked = _content(question)
    told = _content(answer)
    return bool(told) and len(told & asked) / len(told) >= MOST_SHARED


def _content(text: str) -> set[str]:
    """The words that say something."""
    return {word for word in re.findall(r"[a-z0-9]+", text.lower()) if not SMALL.fullmatch(word)}
