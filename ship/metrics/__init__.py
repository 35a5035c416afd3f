"""Accuracies of the protocols, in percent, for each replica.

Answers for: harmonic means, one softmax over all classes, calibrated stacking and its curve, and
the form in which a trial reports an epoch.
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

__all__ = [
    "OBJECTIVES",
    "SEEN_OBJECTIVES",
    "EpochMetrics",
    "NonFiniteLoss",
    "Objective",
    "ProtocolName",
    "Stage",
    "accuracy",
    "score",
    "score_one_softmax",
]
