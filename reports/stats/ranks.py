"""Rank tests over the configurations of a study."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from harness.intervals import CONFIDENCE, ROUNDING, Array, Estimate, Whole

RESAMPLES = 9_999  # random permutations; up to 7 configurations, all (5,040) are used instead
DRAWS = 2_000  # bootstrap samples
# Numbers per batch. With 2 million, which exceed the CPU's caches, a bootstrap takes four times as
# long.
MAX_VALUES_IN_MEMORY = 200_000
MIN_RANKED = 3  # configurations; the order of two is not informative


@dataclass(frozen=True)
class Association:
    """Rank association of a factor with a metric over n configurations.

    Attributes:
        rho: Spearman's rho with its interval. None for categorical factors, and if there is no p.
        p: p of the hypothesis of no association. None with fewer than MIN_RANKED configurations, or
            if the factor or the metric does not vary.
        n: Number of configurations.
        min_p: Smallest p that any order of these configurations has. With few configurations or
            many ties it is above 0.05. None if there is no p.
    """

    rho: Estimate | None
    p: float | None
    n: int
    min_p: float | None = None


def rank_correlation(
    factor: Sequence[float], metric: Sequence[float], rng: np.random.Generator
) -> Association:
    """Return Spearman's rho over configurations with its bootstrap interval and permutation p.

    The interval is a percentile interval. p is exact for up to 7 configurations; otherwise it is
    based on 9,999 random permutations. With fewer than three configurations, or if one side is
    constant, there is no rho and no p.

    Args:
        factor: Level of each configuration, as a number.
        metric: Metric of each configuration, in the same order.
        rng: Generator of the permutations and the bootstrap samples.
    """
    n, rho = len(factor), _rank_interval(factor, metric, rng)
    if rho is None:
        return Association(None, None, n)
    x, y = _ranks(factor), _ranks(metric)
    middle = n * float(x.mean() * y.mean())

    def strength(orders: Array) -> Array:
        return np.asarray(np.abs((orders * x).sum(axis=-1) - middle))

    p, min_p = _permutation_p(y, strength, rng)
    return Association(rho, p, n, min_p)


def _rank_interval(
    x: Sequence[float], y: Sequence[float], rng: np.random.Generator
) -> Estimate | None:
    """Return Spearman's rho over pairs with its percentile bootstrap interval, without a test.

    Args:
        x: First number of each pair.
        y: Second number of each pair.
        rng: Generator of the bootstrap samples.

    Returns:
        None with fewer than three pairs, or if one side is constant.
    """
    sides = [_tied_places(values) for values in (x, y)]
    if len(x) < MIN_RANKED or any(map(_is_flat, sides)):
        return None
    samples = []
    for size in _batch_sizes(DRAWS, len(x)):
        places = rng.integers(0, len(x), (size, len(x)))
        samples.append(_rho(*(np.apply_along_axis(_mid_ranks, -1, side[places]) for side in sides)))
    tail = (1 - CONFIDENCE) / 2
    # samples with a constant side have no correlation and are ignored
    low, high = np.nanquantile(np.concatenate(samples), [tail, 1 - tail])
    return Estimate(correlation(x, y), float(low), float(high), len(x))


def correlation(x: Sequence[float] | Array, y: Sequence[float] | Array) -> float:
    """Return Spearman's rho of pairs; neither side may be constant."""
    return float(_rho(_ranks(x), _ranks(y)))


def rank_groups(
    levels: Sequence[str], metric: Sequence[float], rng: np.random.Generator
) -> Association:
    """Test a categorical factor over configurations by the Kruskal-Wallis test.

    Args:
        levels: Level of the factor in each configuration.
        metric: Metric of each configuration, in the same order.
        rng: Generator of the permutations if there are too many to enumerate (see
            rank_correlation).

    Returns:
        An association with a permutation p, and without rho.
    """
    n, names = len(levels), sorted(set(levels))
    ranks = _ranks(metric)
    if n < MIN_RANKED or _is_flat(ranks) or len(names) < 2:
        return Association(None, None, n)
    member = np.array([[level == name for name in names] for level in levels], dtype=np.float64)

    def between(orders: Array) -> Array:
        sums = (orders - ranks.mean()) @ member
        return np.asarray((sums**2 / member.sum(axis=0)).sum(axis=-1))

    p, min_p = _permutation_p(ranks, between, rng)
    return Association(None, p, n, min_p)


def _ranks(values: Sequence[float] | Array) -> Array:
    """Return ranks from 1; values that are equal up to rounding get their mean rank."""
    return _mid_ranks(_tied_places(values))


def _tied_places(values: Sequence[float] | Array) -> Whole:
    """Return dense ranks from 0; values that are equal up to rounding share a rank."""
    numbers = np.asarray(values, dtype=np.float64)
    order = np.argsort(numbers, kind="stable")
    ascending = numbers[order]
    is_new = np.diff(ascending) > ROUNDING * np.maximum(
        np.abs(ascending[1:]), np.abs(ascending[:-1])
    )
    places = np.zeros(len(numbers), np.int64)
    places[order[1:]] = np.cumsum(is_new)
    return places


def _mid_ranks(places: Whole) -> Array:
    """Return mean ranks from 1 of dense ranks, by counting, which is faster than sorting."""
    counts = np.bincount(places)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[places])


def _is_flat(values: Array | Whole) -> bool:
    """Return True if all values are equal."""
    return bool(np.ptp(values) == 0)


def _permutation_p(
    ranks: Array, statistic: Callable[[Array], Array], rng: np.random.Generator
) -> tuple[float, float]:
    """Return the permutation p of an association, and the smallest p that is possible.

    Args:
        ranks: Ranks of the metric, (n,).
        statistic: Function from orders of the ranks, (orders, n), to their statistics, (orders,).
        rng: Generator of the permutations.

    Returns:
        The share of orders whose statistic is at least as large as that of the observed order, up
        to rounding, and the same for the order with the largest statistic.
    """
    observed = statistic(ranks)
    statistics = np.concatenate([*map(statistic, _draw_orders(ranks, rng))])
    if len(statistics) == RESAMPLES:  # random permutations, without the observed order
        statistics = np.append(statistics, observed)
    p, min_p = (
        float((statistics >= (1 - ROUNDING) * threshold).mean())
        for threshold in (observed, statistics.max())
    )
    return p, min_p


def _draw_orders(ranks: Array, rng: np.random.Generator) -> Iterator[Array]:
    """Yield batches of orders, (orders, n): all if there are few, else RESAMPLES random ones."""
    if math.factorial(len(ranks)) < RESAMPLES:
        yield np.array([*permutations(ranks)])
        return
    for size in _batch_sizes(RESAMPLES, len(ranks)):
        yield rng.permuted(np.tile(ranks, (size, 1)), axis=-1)


def _batch_sizes(count: int, n: int) -> Iterator[int]:
    """Yield the sizes of batches of `count` resamples of n values that fit in memory.

    The batch size does not affect any result.
    """
    max_size = max(1, MAX_VALUES_IN_MEMORY // n)
    yield from (min(max_size, count - first) for first in range(0, count, max_size))


def _rho(x: Array, y: Array) -> Array:
    """Return the correlation of ranks along the last axis; NaN if a side is constant."""
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    norm = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(axis=-1) / norm)
