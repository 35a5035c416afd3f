"""What runs on a worker: one Ray trial, its checkpoints, and what it tells the driver.

Answers for: the form of a trial's order (spec) and of its results. The trainable, which
needs Ray, and the worker itself are imported by their own names.
"""

from harness.worker.checkpoints import checkpoint_name, forget, forget_all
from harness.worker.results import EPOCHS, EVALUATIONS, FAILED, FINAL, LOAD, OBJECTIVE
from harness.worker.spec import feature_key, target_key, trial_spec

__all__ = [
    "EPOCHS",
    "EVALUATIONS",
    "FAILED",
    "FINAL",
    "LOAD",
    "OBJECTIVE",
    "checkpoint_name",
    "feature_key",
    "forget",
    "forget_all",
    "target_key",
    "trial_spec",
]
