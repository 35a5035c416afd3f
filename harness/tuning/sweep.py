"""One sweep over a study's missing trials: through Ray Tune, or one by one in this process."""

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
from harness.machine import scratch
from harness.messages import EVALUATIONS, LAST_VALUE, Need
from harness.method import Method
from harness.ray import death_of, error_text, memory_kills_as_worker_deaths
from harness.tuning.monitor import Monitor
from harness.tuning.searcher import StudySearcher
from harness.worker import ShipTrainable, Worker
from ship.plugins import carried

# feature sets in Ray's object store
Shared = Mapping[Need, Any]
# more evaluations than any trial has: the last rung of successive halving
MOST_EVALUATIONS = 10_000


class StudyScheduler(FIFOScheduler):
    """Every trial runs to its end, but for settings that Ray's ASHA stops, as they lag behind.

    ASHA sees the evaluations of the selection stage, of trials that may be stopped, and those
    alone: what Tune tells a scheduler beside them would count a stopped value twice. It remembers
    nothing of earlier runs: the first trials of a run that goes on are compared with each other.
    """

    def __init__(self, study: StudyConfig, searcher: StudySearcher) -> None:
        """Build it.

        Args:
            study: for its scheduler and its objective.
            searcher: its attempts are told why they are stopped, and what their workers died of.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._objective, self._searcher = study.objective, searcher
        asha = study.scheduler if isinstance(study.scheduler, AshaScheduler) else AshaScheduler()
        self._asha = ASHAScheduler(
            time_attr=EVALUATIONS,
            metric=LAST_VALUE,
            mode="max",
            max_t=MOST_EVALUATIONS,
            grace_period=asha.grace_period,
            reduction_factor=asha.reduction_factor,
            stop_last_trials=False,
        )

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None: Tune starts trials in their order, and an idle worker goes to a new one.

        FIFO's own choice is the first trial that does not run. Its worker may be starting; Tune
        then hands it the idle worker and kills the one that starts. Where trials are shorter than
        the start of a worker, a study would run on one of its places alone.
        """

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Tune tells its scheduler first, then the searcher, then the callbacks."""
        attempt = self._searcher.attempts[trial.trial_id]
        attempt.death = attempt.death or death_of(error_text(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether a trial goes on, by its newest evaluation.

        Args:
            tune_controller: Tune's own, handed on to ASHA.
            trial: Tune's trial.
            result: with LAST_VALUE where there was an evaluation of a trial that may be stopped.
        """
        if LAST_VALUE not in result:
            return TrialScheduler.CONTINUE
        attempt = self._searcher.attempts[trial.trial_id]
        # for ASHA a trial is its setting: one that runs again is not compared twice at a rung
        setting: Any = SimpleNamespace(trial_id=attempt.work.setting.key)
        self._asha.on_trial_add(tune_controller, setting)
        decision = self._asha.on_trial_result(tune_controller, setting, result)
        if decision == TrialScheduler.STOP:
            evaluation, value = result[EVALUATIONS], result[LAST_VALUE]
            attempt.stopped = (
                f"asha stopped it at evaluation {evaluation}: {self._objective} {value:.2f}"
            )
        return decision


def sweep_through_tune(monitor: Monitor, given: Mapping[str, Any], shared: Shared) -> None:
    """Run a searcher's trials until it has no more, in the open Ray session.

    Args:
        monitor: follows the trials of its searcher; its study has resources in numbers.
        given: see worker_arguments.
        shared: the features.

    Raises:
        StoreError, TooManyFailures, KeyboardInterrupt, SweepStopped: as the monitor does.
    """
    taken = monitor.study.resources
    with scratch() as results, memory_kills_as_worker_deaths():
        tune.run(
            type("ShipTrial", (ShipTrainable,), {"shared": shared, "arguments": given}),
            name="study",
            num_samples=-1,
            search_alg=monitor.searcher,
            scheduler=StudyScheduler(monitor.study, monitor.searcher),
            callbacks=[monitor],
            resources_per_trial={"cpu": taken.cpus, "gpu": taken.gpus or 0},
            reuse_actors=True,
            max_failures=0,  # what runs again is the searcher's to say (endings.py)
            raise_on_failed_trial=False,
            storage_path=str(results),
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            verbose=0,
        )


def sweep_in_process(
    monitor: Monitor, given: Mapping[str, Any], features: Mapping[Need, Any]
) -> None:
    """Run them one after the other in this process, with Tune's order of calls.

    So a study has the same runs and the same numbers, a breakpoint in a method works, and a
    traceback is whole. A trial past its time_limit ends with its next result.

    Args: see sweep_through_tune.

    Raises:
        ClusterError: a trial has broken the GPU for this process.
        StoreError, TooManyFailures, KeyboardInterrupt: as the monitor does.
    """
    searcher = monitor.searcher
    scheduler: Any = StudyScheduler(monitor.study, searcher)
    worker = Worker({key: plain_arrays(value) for key, value in features.items()}, **given)
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
        end = monitor.on_trial_error if attempt.death else monitor.on_trial_complete
        end(number, [], trial)
        if worker.broken:  # the next trials would fail, and be taken for a setting's fault
            raise ClusterError("the GPU takes nothing more from this process; run it again")


def worker_arguments(study: StudyConfig, method: Method, storage: Storage) -> dict[str, Any]:
    """What a Worker of a study is made with, beside its features."""
    run_trial: Callable[..., Any] = method.run_trial
    return {
        "run_trial": partial(run_trial, keep=True) if study.save else run_trial,
        "load_backbone": method.load_backbone,
        "threads": study.resources.threads,
        "device": method.accelerator if study.resources.gpus else "cpu",
        "gpus": study.resources.gpus,
        "storage": storage,
        "checkpoint_every": study.checkpoint_every,
        **study.record.model_dump(),
        "plugins": carried(),
    }


def share(features: Mapping[Need, Any]) -> Shared:
    """Put features into the object store, once for all workers of a node.

    tune.with_parameters does the same, but puts its objects again into every later session.
    """
    return {key: ray.put(plain_arrays(value)) for key, value in features.items()}


def plain_arrays(features: Any) -> Any:
    """A feature set whose arrays travel zero-copy: read-only, and no memory maps."""
    fields = vars(features).items()
    arrays = {name: np.asarray(of).view() for name, of in fields if isinstance(of, np.ndarray)}
    for array in arrays.values():
        array.flags.writeable = False
    return replace(features, **arrays)


def array_bytes(features: Mapping[Need, Any]) -> int:
    """Size of the arrays of some feature sets."""
    arrays = (value for one in features.values() for value in vars(one).values())
    return sum(value.nbytes for value in arrays if isinstance(value, np.ndarray))
