"""Scores for a labelled data set, with the field's metrics and everything that shaped them stored beside."""

from vqathinker.evaluation.journal import read_all as read_all
from vqathinker.evaluation.result import COLUMNS as COLUMNS
from vqathinker.evaluation.result import LABELS as LABELS
from vqathinker.evaluation.result import PREDICTIONS_FILE as PREDICTIONS_FILE
from vqathinker.evaluation.result import SUMMARY_FILE as SUMMARY_FILE
from vqathinker.evaluation.result import Evaluation as Evaluation
from vqathinker.evaluation.result import require_free as require_free
from vqathinker.evaluation.run import check_folder as check_folder
from vqathinker.evaluation.run import evaluate as evaluate
