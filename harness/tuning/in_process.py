"""The trials of a sweep in this process, one after the other, where Ray Tune has none.

The searcher, the scheduler, the callback and the worker are those of a sweep through Tune, and are
called in Tune's order. So a study has the same runs and the same numbers, a breakpoint in a method
works, and a traceback is whole.
"""

import itertools
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from harness.checkpoint_storage import Storage
from harness.config import StudyConfig
from harness.errors import ClusterError
from harness.method import Method
from harness.tuning.asha import make_scheduler
from harness.tuning.callback import Monitor
from harness.tuning.run import plain_arrays, worker_arguments
from harness.tuning.searcher import StudySearcher
from harness.tuning.worker_deaths import Deaths
from harness.worker.worker import Worker


def sweep_in_process(
    study: StudyConfig,
    searcher: StudySearcher,
    monitor: Monitor,
    features: Mapping[str, Any],
    method: Method,
    stopped: dict[str, str],
    deaths: Deaths,
    storage: Storage | None = None,
) -> None:
    """Run the searcher's trials until it has no more; see harness.tuning.run.sweep.

    Args:
        study: its resources in numbers. A trial past its time_limit ends with its next result.
        searcher: gives out the trials.
        monitor: follows them.
        features: feature_key -> a feature set.
        method: ship.
        stopped: where trials that the scheduler stops are noted, with why.
        deaths: where trials past their time limit are noted.
        storage: of checkpoints.

    Raises:
        ClusterError: a trial has broken the GPU for this process.
        StoreError, TooManyFailures, KeyboardInterrupt: as the monitor raises them.
    """
    scheduler = make_scheduler(study, searcher.work, stopped, deaths, searcher.places)
    held = {key: plain_arrays(value) for key, value in features.items()}
    worker = Worker(held, **worker_arguments(study, method, storage))
    for number in itertools.count():
        monitor.on_step_begin(number, [])
        trial = SimpleNamespace(trial_id=f"{number:05d}")
        given = searcher.suggest(trial.trial_id)
        if not isinstance(given, dict):
            return
        worker.begin(given)
        monitor.on_trial_start(number, [], trial)
        started, over = time.monotonic(), False
        while not over:
            monitor.on_step_begin(number, [])
            if study.time_limit is not None and time.monotonic() - started > study.time_limit:
                deaths.overdue(trial.trial_id, study.time_limit)
                searcher.on_trial_complete(trial.trial_id, error=True)
                monitor.on_trial_error(number, [], trial)
                break
            result = worker.step()
            decision = scheduler.on_trial_result(None, trial, result)  # type: ignore[arg-type]
            monitor.on_trial_result(number, [], trial, result)
            over = bool(result.get("done")) or decision == TrialScheduler.STOP
        else:
            searcher.on_trial_complete(trial.trial_id, result)
            monitor.on_trial_complete(number, [], trial)
        worker.let_go()
        if worker.broken:
            raise ClusterError("the GPU takes nothing more from this process; run it again")
