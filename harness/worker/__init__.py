"""What runs on a worker: one Ray trial, and what it tells the driver.

Answers for: the form of a trial's order and of its results. The worker itself, which needs Ray, is
imported by its own name.
"""

from harness.worker.messages import (
    EPOCHS,
    EVALUATIONS,
    FAILED,
    FINAL,
    LOAD,
    OBJECTIVE,
    feature_key,
    target_key,
    trial_spec,
)

__all__ = [
    "EPOCHS",
    "EVALUATIONS",
    "FAILED",
    "FINAL",
    "LOAD",
    "OBJECTIVE",
    "feature_key",
    "target_key",
    "trial_spec",
]
