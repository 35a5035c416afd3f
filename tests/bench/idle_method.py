"""A method that trains nothing, so that the cost of its studies is that of the harness."""

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
from tests.harness.fakes import METRIC_NAMES, AnalyticRun, FakeClip, compute_result, make_method


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
    """Return a trial with an evaluation after each selection epoch, and as many metrics as CoOp.

    Args:
        log: File to which a line is appended at the end of the trial.
        epochs: Number of selection epochs.
        config: See harness.method.run_trial, as for the remaining arguments.
        seeds: Seeds of the trial.
        features: Not used.
        clip: Not used.
        targets: Not used.
        resume: Not used.
    """
    return AnalyticRun(_make_metrics(log, epochs, config, seeds), None)


def _make_metrics(
    log: Path, epochs: int, config: TrialConfig, seeds: Sequence[int]
) -> Iterator[EpochMetrics]:
    noise = np.random.default_rng(crc32(config.model_dump_json().encode()))
    values = tuple(compute_result(config, seed) + noise.normal() for seed in seeds)
    for epoch in range(1, epochs + 1):
        metrics = dict.fromkeys((*METRIC_NAMES, "loss"), values)
        yield EpochMetrics("selection", epoch, epoch / (epochs + 1), metrics)
    test: dict[str, tuple[float, ...]] = dict.fromkeys(METRIC_NAMES, values)
    test["selection_epoch"] = tuple(float(epochs) for _ in seeds)
    test["selection_harmonic_mean"] = values
    correct = tuple(bytes([(round(value) % 16) << 4]) for value in values)
    correct_predictions = CorrectPredictions(
        "", (0, 0, 1, 1), ("cat", "dog"), (True, False), {"own": correct, "all": correct}
    )
    with log.open("a") as file:
        file.write("over\n")
    yield EpochMetrics("test", epochs, 1.0, test, (correct_predictions,))


def make_idle_method(log: Path, epochs: int) -> MethodFunctions:
    """Return the functions of the method.

    Args:
        log: File to which a line is appended at the end of each trial.
        epochs: Number of selection epochs per trial.
    """
    method = make_method(log.with_suffix(".features"))
    return replace(method, run_trial=partial(run_idle, log, epochs))
