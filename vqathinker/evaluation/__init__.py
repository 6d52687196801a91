"""Scores for a labelled data set, with the field's metrics and everything that shaped them stored beside."""

from vqathinker.evaluation.journal import read_all as read_all
from vqathinker.evaluation.result import COLUMNS as COLUMNS
from vqathinker.evaluation.result import Evaluation as Evaluation
from vqathinker.evaluation.run import check_folder as check_folder
from vqathinker.evaluation.run import evaluate as evaluate
