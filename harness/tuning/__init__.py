"""Run trials with Ray Tune: decide which is next, which stops early, and which is retried.

Responsible for the searcher that uses Optuna, for ASHA, and for distinguishing a worker's death
from a fault of the configuration. Importing this package imports Ray and Optuna.
"""

from harness.tuning.monitor import Monitor, TooManyFailures
from harness.tuning.searcher import StudySearcher
from harness.tuning.tune_run import (
    count_bytes,
    make_worker_arguments,
    put_features,
    sweep_in_process,
    sweep_through_tune,
)
