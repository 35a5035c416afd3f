"""Workers in the test's process, and the trials that they run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.messages import list_feature_keys, make_trial_spec
from harness.worker import Worker
from ship.trial_config import EpochMetrics, TrialConfig
from tests.harness.fakes import FakeClip, FakeFeatures, make_method

CONFIG = TrialConfig()


def make_worker(run_trial: Any, config: TrialConfig = CONFIG, **keys: Any) -> Worker:
    """Return a worker that has begun its first trial.

    Args:
        run_trial: Function that runs a trial.
        config: The trial.
        keys: `backbone` (fingerprint of the features' backbone), `load_backbone`, `gpus`,
            `log` (keyword arguments of Worker) and `may_stop`.
    """
    shared = np.zeros((1, 1, 1), dtype=np.float32)
    shared.setflags(write=False)  # like arrays from Ray's object store
    features = FakeFeatures("emoji", shared, keys.get("backbone"))
    worker = Worker(
        {list_feature_keys(c)[0]: features for c in (config, CONFIG)},
        run_trial,
        keys.get("load_backbone", FakeClip),
        gpus=keys.get("gpus", 0),
        **keys.get("log", {}),
    )
    worker.begin(make_trial_spec(config, (0, 1), keys.get("may_stop", True)))
    return worker


def run_to_end(worker: Worker) -> list[dict[str, Any]]:
    """Run a worker's trial to its end, and return all results."""
    results = []
    while not results or not results[-1].get("done"):
        results.append(worker.step())
    return results


def make_run_trial(tmp_path: Path) -> Any:
    """Return the function that runs a trial of the analytic method."""
    return make_method(tmp_path / "log").run_trial


def make_selection_trial(*per_seed: dict[str, tuple[float, ...]]) -> Any:
    """Return a run_trial that yields selection epochs with these metrics."""

    def run_trial(*_: Any) -> Iterator[EpochMetrics]:
        for epoch, values in enumerate(per_seed, 1):
            yield EpochMetrics("selection", epoch, 0.5, values)

    return run_trial
