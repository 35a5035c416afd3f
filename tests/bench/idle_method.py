"""A method in ship's place that does nothing: what a study of it costs is the harness's own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from harness.method import MethodFunctions
from ship.state import Checkpoint
from ship.trial_config import CorrectPredictions, EpochMetrics, TrialConfig
from tests.harness.fakes import SIX, AnalyticRun, FakeClip, make_method, truth


def run_idle(
    log: Path,
    epochs: int,
    config: TrialConfig,
    seeds: Sequence[int],
    features: Any,
    clip: FakeClip,
    targets: Mapping[str, Any],
    resume: Checkpoint | None = None,
) -> AnalyticRun:
    """A trial of so many selection epochs, each looked at, with as many metrics as ship's CoOp.

    Args:
        log: gets a line when the trial is over.
        epochs: of selection.
        config, seeds, features, clip, targets, resume: as harness.method.run_trial.
    """
    return AnalyticRun(_epochs(log, epochs, config, seeds), None)


def _epochs(
    log: Path, epochs: int, config: TrialConfig, seeds: Sequence[int]
) -> Iterator[EpochMetrics]:
    noise = np.random.default_rng(crc32(config.model_dump_json().encode()))
    values = tuple(truth(config, seed) + noise.normal() for seed in seeds)
    for epoch in range(1, epochs + 1):
        metrics = dict.fromkeys((*SIX, "loss"), values)
        yield EpochMetrics("selection", epoch, epoch / (epochs + 1), metrics)
    test: dict[str, tuple[float, ...]] = dict.fromkeys(SIX, values)
    test["selection_epoch"] = tuple(float(epochs) for _ in seeds)
    test["selection_harmonic_mean"] = values
    correct = tuple(bytes([(round(value) % 16) << 4]) for value in values)
    correct_predictions = CorrectPredictions(
        "", (0, 0, 1, 1), ("cat", "dog"), (True, False), {"own": correct, "all": correct}
    )
    with log.open("a") as file:
        file.write("over\n")
    yield EpochMetrics("test", epochs, 1.0, test, (correct_predictions,))


def idle_method(log: Path, epochs: int) -> MethodFunctions:
    """The method; `log` has a line for each trial that is over.

    Args:
        log: a file.
        epochs: of selection in each trial.
    """
    method = make_method(log.with_suffix(".features"))
    return replace(method, run_trial=partial(run_idle, log, epochs))
