"""Opinions of machines and people: who scores, how scores become MOS, levels and pairs."""

from vqathinker.opinions.levels import level_index as level_index
from vqathinker.opinions.levels import level_probabilities as level_probabilities
from vqathinker.opinions.mapping import ScoreMapping as ScoreMapping
from vqathinker.opinions.mapping import fit_mapping as fit_mapping
from vqathinker.opinions.pairs import Pair as Pair
from vqathinker.opinions.pairs import draw_pairs as draw_pairs
from vqathinker.opinions.pairs import preference as preference
