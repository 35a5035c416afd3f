"""Accuracies of the protocols, in percent, for each replica.

Answers for: harmonic means, one softmax over all classes, calibrated stacking and its curve, right
answers picture by picture, and the form in which a trial reports an epoch.
"""

from ship.metrics.accuracy import (
    OBJECTIVES,
    SEEN_OBJECTIVES,
    EpochMetrics,
    NonFiniteLoss,
    Objective,
    ProtocolName,
    Stage,
    accuracy,
    score,
)
from ship.metrics.calibrated_stacking import score_one_softmax
from ship.metrics.hits import Hits, packed, right_answers

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
    "packed",
    "right_answers",
    "score",
    "score_one_softmax",
]
