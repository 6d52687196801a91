"""Scores for videos, without labels: `Scorer.from_pretrained(DIR).score("clip.mp4")`."""

from vqathinker.scoring.modes import Mode as Mode
from vqathinker.scoring.result import Reply as Reply
from vqathinker.scoring.result import Score as Score
from vqathinker.scoring.scorer import Scorer as Scorer
