"""Accuracies of the protocols, in percent, for each replica.

Answers for: harmonic means, one softmax over all classes, calibrated stacking and its curve, base
pictures told from new ones and calibration errors (open_world), right answers picture by picture.
The names of metrics and the form in which a trial reports an epoch need no torch: ship.configs and
ship.epoch_metrics, which it hands on.
"""

from ship.epoch_metrics import EpochMetrics, Hits, NonFiniteLoss, Stage
from ship.metrics.answers import Answers, packed, percent, score
from ship.metrics.calibrated_stacking import score_one_softmax
from ship.metrics.open_world import open_world
from ship.trial_config import OBJECTIVES, ProtocolName

__all__ = [
    "OBJECTIVES",
    "Answers",
    "EpochMetrics",
    "Hits",
    "NonFiniteLoss",
    "ProtocolName",
    "Stage",
    "open_world",
    "packed",
    "percent",
    "score",
    "score_one_softmax",
]
