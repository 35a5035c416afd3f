"""One Tune run over a study's missing trials, in the Ray session that is open."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
from ray import tune

from harness.checkpoint_storage import Storage
from harness.cluster import memory_kills_as_worker_deaths, threads
from harness.config import StudyConfig
from harness.method import Method, keeping
from harness.scratch import scratch
from harness.tuning.asha import make_scheduler
from harness.tuning.callback import Monitor
from harness.tuning.searcher import StudySearcher
from harness.tuning.worker_deaths import Deaths
from harness.worker.trainable import ShipTrainable
from ship.plugins import carried

# feature_key -> a feature set in Ray's object store
Shared = Mapping[str, Any]


def sweep(
    study: StudyConfig,
    searcher: StudySearcher,
    monitor: Monitor,
    shared: Shared,
    method: Method,
    stopped: dict[str, str],
    deaths: Deaths,
    storage: Storage | None = None,
) -> None:
    """Run the searcher's trials in the open Ray session until it has no more.

    Args:
        study: its resources in numbers.
        searcher: gives out the trials.
        monitor: follows them.
        shared: the features.
        method: ship.
        stopped: where trials that the scheduler stops are noted, with why.
        deaths: where deaths of workers are noted.
        storage: of checkpoints.

    Raises:
        StoreError, TooManyFailures, KeyboardInterrupt, SweepStopped: as the monitor raises them.
    """
    with scratch() as results, memory_kills_as_worker_deaths():
        tune.run(
            bind(study, shared, method, storage),
            name="study",
            num_samples=-1,
            search_alg=searcher,
            scheduler=make_scheduler(study, searcher.work, stopped, deaths, searcher.places),
            callbacks=[monitor],
            resources_per_trial={"cpu": study.resources.cpus, "gpu": study.resources.gpus},
            reuse_actors=True,
            max_failures=0,  # what runs again is the searcher's to say (retry_policy.py)
            raise_on_failed_trial=False,
            storage_path=str(results),
            trial_dirname_creator=_trial_folder,
            verbose=0,
        )


def worker_arguments(study: StudyConfig, method: Method, storage: Storage | None) -> dict[str, Any]:
    """What a Worker of the study is made with, beside its features.

    Args:
        study: its resources in numbers.
        method: ship.
        storage: of checkpoints; None: there are none.
    """
    return {
        "run_trial": keeping(method.run_trial) if study.save else method.run_trial,
        "load_backbone": method.load_backbone,
        "threads": threads(study),
        "device": method.accelerator if study.resources.gpus else "cpu",
        "gpus": study.resources.gpus,
        "storage": storage,
        "checkpoint_every": study.checkpoint_every,
        **study.record.model_dump(),
        "plugins": carried(),
    }


def share(features: Mapping[str, Any]) -> Shared:
    """Put features into the object store, once for all workers of a node.

    tune.with_parameters does the same, but puts its objects again into every later session.
    """
    return {key: ray.put(plain_arrays(value)) for key, value in features.items()}


def bind(
    study: StudyConfig, shared: Shared, method: Method, storage: Storage | None
) -> type[ShipTrainable]:
    """The trainable with its features and the arguments of this study.

    Args:
        study: its resources in numbers.
        shared: the features, in Ray's object store.
        method: ship.
        storage: of checkpoints; None: there are none.
    """
    arguments = worker_arguments(study, method, storage)

    class Bound(ShipTrainable):
        """ShipTrainable with the arguments of this study."""

        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            """Read the features, zero-copy, and set up."""
            held = {key: ray.get(reference) for key, reference in shared.items()}
            super().setup(config, features=held, **arguments)

    return Bound


def plain_arrays(features: Any) -> Any:
    """A feature set whose arrays travel zero-copy: read-only, and no memory maps."""
    fields = {name: getattr(features, name) for name in features.__dataclass_fields__}
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            fields[name] = np.asarray(value).view()
            fields[name].flags.writeable = False
    return type(features)(**fields)


def array_bytes(features: Mapping[str, Any]) -> int:
    """Size of the arrays of some feature sets."""
    return sum(
        value.nbytes
        for held in features.values()
        for value in vars(held).values()
        if isinstance(value, np.ndarray)
    )


def _trial_folder(trial: Any) -> str:
    return str(trial.trial_id)
