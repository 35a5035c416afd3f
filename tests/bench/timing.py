"""Two ways of doing the same thing, timed in turn in one process; the ratio is what counts."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Median seconds of a plain and a fast way, and the median of their pairwise ratios."""

    name: str
    plain_s: float
    fast_s: float
    ratio: float


def compare(
    name: str, plain: Callable[[], object], fast: Callable[[], object], repeats: int = 5
) -> Comparison:
    """Time both in turn, after one warm-up each, so that a drifting machine touches both alike."""
    plain(), fast()
    pairs = [(_seconds(plain), _seconds(fast)) for _ in range(repeats)]
    return Comparison(
        name,
        statistics.median(p for p, _ in pairs),
        statistics.median(f for _, f in pairs),
        statistics.median(p / f for p, f in pairs),
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
