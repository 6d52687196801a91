"""Instruction data: builders that turn media and what is known of them into samples, and judges."""

from __future__ import annotations

from collections.abc import Callable

from vqathinker.instructions.base import Builder as Builder
from vqathinker.instructions.base import Built as Built
from vqathinker.instructions.base import Rejection as Rejection
from vqathinker.instructions.chain import Chain, DescribeScores
from vqathinker.instructions.depiction import Depiction as Depiction
from vqathinker.instructions.judging import Judging as Judging
from vqathinker.instructions.recognition import Recognition
from vqathinker.instructions.scoring import Scoring
from vqathinker.instructions.understanding import Understanding

GROUP = "vqathinker.builders"
BUILDERS: dict[str, Callable[..., Builder]] = {
    "recognition": Recognition,
    "scoring": Scoring,
    "understanding": Understanding,
    "depiction": Depiction,
    "chain": Chain,
    "describe_scores": DescribeScores,
}
