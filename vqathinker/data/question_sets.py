"""Sets of questions about videos that are published: how many, of which kinds, from where.

Sources: Q-Bench-Video (arXiv 2409.20063), FineVD (arXiv 2412.19238); counted in the published files.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase

from vqathinker.choices import YES_NO
from vqathinker.samples import Sample

KIND = "question_type"


@dataclass(frozen=True)
class QuestionSet:
    """A set of questions.

    Attributes:
        name: as results call it, the subset in it.
        num_questions: in the file.
        num_media: videos that they are about.
        file: name of the published file.
        source: where its publishers offer it.
        keys: how often each option's letter or word is right, of closed questions.
        kinds: questions of each type, where the file tells one.
    """

    name: str
    num_questions: int
    num_media: int
    file: str
    source: str
    keys: Mapping[str, int]
    kinds: Mapping[str, int] = field(default_factory=dict)


FINEVD = "https://huggingface.co/datasets/IntMeGroup/FineVD; questions: github.com/IntMeGroup/FineVQ, data/"
QUESTION_SETS: dict[str, QuestionSet] = {
    one.name: one
    for one in (
        QuestionSet(
            name="Q-Bench-Video-dev-single",
            num_questions=892,
            num_media=882,
            file="qbvideo_dev_single.json",
            source="https://huggingface.co/datasets/zhangzicheng/Q-Bench-Video",
            keys={"A": 227, "B": 227, "C": 88, "D": 80},
            kinds={"what/how": 328, "yes-or-no": 294, "open_ended": 270},
        ),
        QuestionSet(
            name="FineVD-test-yes-no",
            num_questions=5080,
            num_media=1016,
            file="yesno_test.jsonl",
            source=FINEVD,
            keys={"Yes": 1782, "No": 3298},
        ),
        QuestionSet(
            name="FineVD-test-dimension",
            num_questions=1016,
            num_media=1016,
            file="abcd2_test.jsonl",
            source=FINEVD,
            keys={},
        ),
        QuestionSet(
            name="FineVD-test-type",
            num_questions=1016,
            num_media=1016,
            file="abcd_test_en.jsonl",
            source=FINEVD,
            keys={},
        ),
    )
}


def differences(one: QuestionSet, samples: Sequence[Sample]) -> list[str]:
    """Say in a line each what in a file differs from the record; nothing if all is as it should be."""
    lines = []
    media = {medium.path for sample in samples for medium in sample.media}
    for what, found, expected in (
        ("questions", len(samples), one.num_questions),
        ("videos", len(media), one.num_media),
    ):
        if found != expected:
            lines.append(f"{found} {what}, {one.name} has {expected}")
    kinds = Counter(str(sample.columns.get(KIND)) for sample in samples if KIND in sample.columns)
    if one.kinds and dict(kinds) != dict(one.kinds):
        lines.append(f"questions by type: {dict(kinds)}, {one.name} has {dict(one.kinds)}")
    keys = Counter(_key(sample) for sample in samples if sample.correct is not None)
    if one.keys and dict(keys) != dict(one.keys):
        lines.append(f"right answers: {dict(sorted(keys.items()))}, {one.name} has {dict(one.keys)}")
    return lines


def missing_media(samples: Sequence[Sample], folder: Path) -> list[str]:
    """The media of questions that are not in a folder."""
    paths = dict.fromkeys(medium.path for sample in samples for medium in sample.media)
    return [path for path in paths if not os.path.exists(folder / path)]


def _key(sample: Sample) -> str:
    """The right answer: the word of a yes-or-no question whose options are these, else the letter."""
    assert sample.correct is not None
    is_yes_no = KIND not in sample.columns and set(sample.options) == set(YES_NO)
    return sample.options[sample.correct] if is_yes_no else ascii_uppercase[sample.correct]
