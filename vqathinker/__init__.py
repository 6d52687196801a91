"""Reinforcement fine-tuning of video language models that reason about video quality and score it.

Importing the package loads its ground floor only (numpy, scipy); torch comes with the floors above.
"""

from vqathinker.answers import Answer as Answer
from vqathinker.answers import parse as parse
from vqathinker.types import Perturbation as Perturbation
from vqathinker.types import Reward as Reward
from vqathinker.types import RolloutBatch as RolloutBatch

__version__ = "0.1.0"
