"""Trials through Ray Tune: which comes next, what stops early, what is tried again.

Answers for: the searcher over Optuna, ASHA, and telling a worker's death from a
setting's fault. Importing it imports Ray and Optuna.
"""

from harness.tuning.callback import Monitor
from harness.tuning.failure_streak import TooManyFailures
from harness.tuning.in_process import sweep_in_process
from harness.tuning.run import Shared, array_bytes, share, sweep
from harness.tuning.searcher import StudySearcher
from harness.tuning.worker_deaths import Deaths

__all__ = [
    "Deaths",
    "Monitor",
    "Shared",
    "StudySearcher",
    "TooManyFailures",
    "array_bytes",
    "share",
    "sweep",
    "sweep_in_process",
]
