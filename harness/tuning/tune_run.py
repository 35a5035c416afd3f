"""Run all trials that a searcher suggests, with tune.run in a Ray session or in this process.

`sweep_through_tune` calls tune.run. `sweep_in_process` makes the same calls to the searcher, the
scheduler and the callback without Ray workers, e.g. for a debugger.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from harness.checkpoints import Storage
from harness.config import AshaScheduler, StudyConfig
from harness.errors import ClusterError
from harness.machine import scratch_folder
from harness.messages import EVALUATIONS, LAST_VALUE, FeatureKey
from harness.method import MethodFunctions
from harness.ray import parse_death, read_error_file, report_memory_kills_as_deaths
from harness.tuning.monitor import Monitor
from harness.tuning.searcher import StudySearcher
from harness.worker import ShipTrainable, Worker
from ship.plugins import list_loaded_origins

# References to feature sets in Ray's object store.
FeatureReferences = Mapping[FeatureKey, Any]
# ASHA's max_t, the evaluation at which it stops every trial. No trial has so many evaluations.
MAX_EVALUATIONS = 10_000


class StudyScheduler(FIFOScheduler):
    """Scheduler that starts trials in order, and stops those that Ray's ASHA decides to stop.

    ASHA gets only the selection evaluations of trials that it may stop. If it got Tune's other
    notifications, it would count the value of a stopped trial twice. ASHA knows only the trials of
    this run: in a resumed study, trials are not compared with those of earlier runs.
    """

    def __init__(self, study: StudyConfig, searcher: StudySearcher) -> None:
        """Create the scheduler.

        Args:
            study: Study with the scheduler's options and the objective.
            searcher: Searcher with the attempts, in which the scheduler records why a trial was
                stopped or why its worker died.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._objective, self._searcher = study.objective, searcher
        asha = study.scheduler if isinstance(study.scheduler, AshaScheduler) else AshaScheduler()
        self._asha = ASHAScheduler(
            time_attr=EVALUATIONS,
            metric=LAST_VALUE,
            mode="max",
            max_t=MAX_EVALUATIONS,
            grace_period=asha.grace_period,
            reduction_factor=asha.reduction_factor,
            stop_last_trials=False,
        )

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Return None: Tune then starts trials in order and gives an idle worker a new trial.

        FIFOScheduler would return the first trial that is not running, even if a worker for that
        trial is starting. Tune would give the idle worker to that trial and kill the starting
        worker. If trials are shorter than the start of a worker, only one worker would ever run.
        """

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Record the cause of a worker's death in the attempt, unless it is known already.

        Tune calls the scheduler before the searcher and the callbacks, which read the cause.
        """
        attempt = self._searcher.attempts[trial.trial_id]
        attempt.death = attempt.death or parse_death(read_error_file(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Let ASHA decide whether a trial continues after its newest evaluation.

        Args:
            tune_controller: Tune's controller, passed on to ASHA.
            trial: Tune's trial.
            result: Result of the trial. It has LAST_VALUE only if there was an evaluation and the
                trial may be stopped.

        Returns:
            TrialScheduler.CONTINUE or TrialScheduler.STOP.
        """
        if LAST_VALUE not in result:
            return TrialScheduler.CONTINUE
        attempt = self._searcher.attempts[trial.trial_id]
        # ASHA identifies a trial by its configuration, so that a retry is not counted twice
        configuration: Any = SimpleNamespace(trial_id=attempt.work.configuration.key)
        self._asha.on_trial_add(tune_controller, configuration)
        decision = self._asha.on_trial_result(tune_controller, configuration, result)
        if decision == TrialScheduler.STOP:
            evaluation, value = result[EVALUATIONS], result[LAST_VALUE]
            attempt.stop_reason = (
                f"stopped by asha at evaluation {evaluation}: {self._objective} {value:.2f}"
            )
        return decision


def sweep_through_tune(
    monitor: Monitor, arguments: Mapping[str, Any], features: FeatureReferences
) -> None:
    """Run a searcher's trials in the open Ray session until none are left.

    Args:
        monitor: Callback with the searcher. The resources of its study must be resolved.
        arguments: Arguments of the workers, see `make_worker_arguments`.
        features: Feature sets in the object store, see `put_features`.

    Raises:
        StoreError: The store failed.
        TooManyFailures: Too many configurations failed in a row.
        KeyboardInterrupt: Ray has died, or a signal ended the run in a session of the study.
        SweepStopped: A signal ended the run in a session that the caller of the study opened.
        UserError: No worker can start, or another driver has taken over the study.
    """
    resources = monitor.study.resources
    with scratch_folder() as results, report_memory_kills_as_deaths():
        tune.run(
            type("ShipTrial", (ShipTrainable,), {"shared": features, "arguments": arguments}),
            name="study",
            num_samples=-1,
            search_alg=monitor.searcher,
            scheduler=StudyScheduler(monitor.study, monitor.searcher),
            callbacks=[monitor],
            resources_per_trial={"cpu": resources.cpus, "gpu": resources.gpus or 0},
            reuse_actors=True,
            max_failures=0,  # the searcher decides about retries (retries.py)
            raise_on_failed_trial=False,
            storage_path=str(results),
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            verbose=0,
        )


def sweep_in_process(
    monitor: Monitor, arguments: Mapping[str, Any], features: Mapping[FeatureKey, Any]
) -> None:
    """Run a searcher's trials one after the other in this process.

    The searcher, the scheduler and the monitor are called as Tune would call them, so that runs and
    numbers are the same. Breakpoints in a method work, and tracebacks are complete. A trial that
    exceeds its trial_timeout ends only at its next result.

    Args:
        monitor: Callback with the searcher. The resources of its study must be resolved.
        arguments: Arguments of the worker, see `make_worker_arguments`.
        features: Feature sets of the trials.

    Raises:
        ClusterError: A trial has made the GPU unusable for this process.
        StoreError: The store failed.
        TooManyFailures: Too many configurations failed in a row.
        KeyboardInterrupt: A signal ended the run.
    """
    searcher = monitor.searcher
    scheduler: Any = StudyScheduler(monitor.study, searcher)
    worker = Worker({key: make_read_only(value) for key, value in features.items()}, **arguments)
    for number in itertools.count():
        monitor.on_step_begin(number, [])
        trial = SimpleNamespace(trial_id=f"{number:05d}")
        config = searcher.suggest(trial.trial_id)
        if not isinstance(config, dict):
            return
        attempt = searcher.attempts[trial.trial_id]
        worker.begin(config)
        monitor.on_trial_start(number, [], trial)
        result: dict[str, Any] = {}
        while not result.get("done"):
            monitor.on_step_begin(number, [])
            if attempt.death:
                break
            result = worker.step()
            decision = scheduler.on_trial_result(None, trial, result)
            monitor.on_trial_result(number, [], trial, result)
            if decision == TrialScheduler.STOP:
                break
        searcher.on_trial_complete(trial.trial_id, result, error=bool(attempt.death))
        if attempt.death:
            monitor.on_trial_error(number, [], trial)
        else:
            monitor.on_trial_complete(number, [], trial)
        if worker.gpu_is_broken:  # all further trials would fail through no fault of their own
            raise ClusterError(
                "this process cannot use the GPU any more. Run the same command to resume"
            )


def make_worker_arguments(
    study: StudyConfig, method: MethodFunctions, storage: Storage
) -> dict[str, Any]:
    """Return the arguments of `Worker` for a study, without the features.

    Args:
        study: The study. Its resources must be resolved.
        method: Method to run.
        storage: Storage of checkpoints.
    """
    run_trial: Callable[..., Any] = method.run_trial
    return {
        "run_trial": partial(run_trial, save_models=True) if study.save_models else run_trial,
        "load_backbone": method.load_backbone,
        "threads": study.resources.threads,
        "device": method.accelerator if study.resources.gpus else "cpu",
        "gpus": study.resources.gpus,
        "storage": storage,
        "checkpoint_every": study.checkpoint_every,
        **study.log.model_dump(),
        "plugins": list_loaded_origins(),
    }


def put_features(features: Mapping[FeatureKey, Any]) -> FeatureReferences:
    """Put features into Ray's object store, where all workers of a node share one copy.

    tune.with_parameters does the same, but adds a hook to Ray that is never removed.
    """
    return {key: ray.put(make_read_only(value)) for key, value in features.items()}


def make_read_only(features: Any) -> Any:
    """Return a copy of a feature set whose arrays are read-only views of the original ones.

    Arrays from Ray's object store are read-only in workers. With this function they are read-only
    in the driver, too: a method that modifies its features fails in every process.
    """
    fields = vars(features).items()
    arrays = {
        name: np.asarray(value).view() for name, value in fields if isinstance(value, np.ndarray)
    }
    for array in arrays.values():
        array.flags.writeable = False
    return replace(features, **arrays)


def count_bytes(features: Mapping[FeatureKey, Any]) -> int:
    """Return the total size of the arrays of feature sets in bytes."""
    values = (value for feature_set in features.values() for value in vars(feature_set).values())
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))
