"""Two ways of doing the same thing, timed in turn in one process; the ratio is what counts."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mlflow.tracking import MlflowClient

T = TypeVar("T")


@dataclass(frozen=True)
class Comparison:
    """Median seconds of a plain and a fast way, and the median of their pairwise ratios.

    target: the ratio that is wanted; None: none was set.
    """

    name: str
    plain_s: float
    fast_s: float
    ratio: float
    target: float | None = None


def compare(
    name: str,
    plain: Callable[[], object],
    fast: Callable[[], object],
    repeats: int = 5,
    warm_up: bool = True,
) -> Comparison:
    """Time both in turn, after one warm-up each, so that a drifting machine touches both alike."""
    if warm_up:
        plain(), fast()
    pairs = [(seconds(plain), seconds(fast)) for _ in range(repeats)]
    return Comparison(
        name,
        statistics.median(p for p, _ in pairs),
        statistics.median(f for _, f in pairs),
        statistics.median(p / f for p, f in pairs),
    )


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    return timed(work)[0]


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """How long it takes, and what it gives."""
    start = time.perf_counter()
    made = work()
    return time.perf_counter() - start, made


def spans(uri: str, study: str, since: float) -> list[tuple[float, float]]:
    """When each finished trial of a study began to compute, and when it ended, in seconds.

    Args:
        uri: of its store.
        study: its name.
        since: runs that began earlier are left out.
    """
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    return [
        (run.info.end_time / 1000 - run.data.metrics["cost/seconds"], run.info.end_time / 1000)
        for run in client.search_runs([experiment.experiment_id])
        if "cost/seconds" in run.data.metrics and run.info.start_time > 1000 * since
    ]
