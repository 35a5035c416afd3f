"""A worker in this process, and the analytic trials that it runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.worker.spec import feature_key, trial_spec
from harness.worker.trainable import (
    ShipTrainable,
)
from ship.metrics import EpochMetrics
from ship.trial_config import TrialConfig
from tests.harness.fakes import FakeClip, FakeFeatures, make_method

CONFIG = TrialConfig()


def make_worker(run_trial: Any, config: TrialConfig = CONFIG, **keys: Any) -> ShipTrainable:
    """A worker with its first trial."""

    class Worker(ShipTrainable):
        def setup(self, spec: dict[str, Any]) -> None:  # type: ignore[override]
            shared = np.zeros((1, 1, 1), dtype=np.float32)
            shared.setflags(write=False)  # as Ray gives them
            features = FakeFeatures("emoji", shared, keys.get("backbone"))
            super().setup(
                spec,
                features={feature_key(c): features for c in (config, CONFIG)},
                run_trial=run_trial,
                load_backbone=keys.get("load_backbone", FakeClip),
                **keys.get("record", {}),
            )

    return Worker(config=trial_spec(config, (0, 1), keys.get("judged", True)))


def finish(worker: ShipTrainable) -> list[dict[str, Any]]:
    """Every result up to the last."""
    results = []
    while not results or not results[-1].get("done"):
        results.append(worker.train())
    return results


def analytic(tmp_path: Path) -> Any:
    """The analytic method's run_trial."""
    return make_method(tmp_path / "log").run_trial


def items(*per_replica: dict[str, tuple[float, ...]]) -> Any:
    """A run_trial that yields selection epochs with these metrics."""

    def run_trial(*_: Any) -> Iterator[EpochMetrics]:
        for epoch, values in enumerate(per_replica, 1):
            yield EpochMetrics("selection", epoch, 0.5, values)

    return run_trial
