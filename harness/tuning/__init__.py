"""Trials through Ray Tune: which comes next, what stops early, what is tried again.

Answers for: the searcher over Optuna, ASHA, and telling a worker's death from a
setting's fault. Importing it imports Ray and Optuna.
"""

from harness.tuning.monitor import Monitor, TooManyFailures
from harness.tuning.searcher import StudySearcher
from harness.tuning.sweep import (
    array_bytes,
    share,
    sweep_in_process,
    sweep_through_tune,
    worker_arguments,
)
