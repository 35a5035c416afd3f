"""Accuracies of the protocols, in percent, for each replica.

Answers for: harmonic means, one softmax over all classes, calibrated stacking and its curve, base
pictures told from new ones and calibration errors (open_world), right answers picture by picture.
The names of metrics and the form in which a trial reports an epoch need no torch: ship.configs and
ship.epoch_metrics, which it hands on.
"""

from ship.configs import OBJECTIVES, SEEN_OBJECTIVES, Objective, ProtocolName
from ship.epoch_metrics import EpochMetrics, Hits, NonFiniteLoss, Stage
from ship.metrics.accuracy import accuracy, score
from ship.metrics.calibrated_stacking import score_one_softmax
from ship.metrics.hits import packed, right_answers
from ship.metrics.open_world import open_world

__all__ = [
    "OBJECTIVES",
    "SEEN_OBJECTIVES",
    "EpochMetrics",
    "Hits",
    "NonFiniteLoss",
    "Objective",
    "ProtocolName",
    "Stage",
    "accuracy",
    "open_world",
    "packed",
    "right_answers",
    "score",
    "score_one_softmax",
]
