"""Rank tests over the configurations of a study."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from harness.intervals import CONFIDENCE, ROUNDING, Array, Estimate, Whole

# Number of random permutations. With up to 7 configurations, all permutations (at most 5,040) are
# used instead.
RESAMPLES = 9_999
DRAWS = 2_000  # bootstrap samples
# Maximum number of values in a batch of resamples. With 2 million, which exceed the CPU's caches, a
# bootstrap takes four times as long.
MAX_BATCH_VALUES = 200_000
MIN_RANKED = 3  # minimum number of configurations; the order of two is not informative


@dataclass(frozen=True)
class Association:
    """Rank association of a factor with a metric over n configurations.

    Attributes:
        rho: Spearman's rho with its interval. None for categorical factors, or if p is None.
        p: p-value of the null hypothesis of no association. None with fewer than MIN_RANKED
            configurations, or if the factor or the metric does not vary.
        n: Number of configurations.
        min_p: Smallest p that any order of these configurations could have. With few configurations
            or many ties it may exceed 0.05, so that no association can be significant. None if
            p is None.
    """

    rho: Estimate | None
    p: float | None
    n: int
    min_p: float | None = None


def compute_rank_correlation(
    factor: Sequence[float], metric: Sequence[float], rng: np.random.Generator
) -> Association:
    """Return Spearman's rho over configurations with its bootstrap interval and permutation p.

    The interval is a percentile interval. p is exact for up to 7 configurations; with more, it is
    estimated from RESAMPLES random permutations.

    Args:
        factor: Level of each configuration, as a number.
        metric: Metric of each configuration, in the same order.
        rng: Generator of the permutations and the bootstrap samples.

    Returns:
        The association. It has neither rho nor p with fewer than MIN_RANKED configurations, or if
        the factor or the metric is constant.
    """
    n, rho = len(factor), _compute_rank_interval(factor, metric, rng)
    if rho is None:
        return Association(None, None, n)
    x, y = _compute_ranks(factor), _compute_ranks(metric)
    expected_product = n * float(x.mean() * y.mean())

    def measure_strength(orders: Array) -> Array:
        """Return statistics that increase with |rho|, (orders,)."""
        return np.asarray(np.abs((orders * x).sum(axis=-1) - expected_product))

    p, min_p = _compute_permutation_p(y, measure_strength, rng)
    return Association(rho, p, n, min_p)


def _compute_rank_interval(
    x: Sequence[float], y: Sequence[float], rng: np.random.Generator
) -> Estimate | None:
    """Return Spearman's rho over pairs with its percentile bootstrap interval, without a test.

    Args:
        x: First number of each pair.
        y: Second number of each pair.
        rng: Generator of the bootstrap samples.

    Returns:
        The estimate. None with fewer than MIN_RANKED pairs, or if one side is constant.
    """
    sides = [_compute_dense_ranks(values) for values in (x, y)]
    if len(x) < MIN_RANKED or any(map(_is_constant, sides)):
        return None
    samples = []
    for size in _iter_batch_sizes(DRAWS, len(x)):
        positions = rng.integers(0, len(x), (size, len(x)))
        ranks = [np.apply_along_axis(_average_ties, -1, side[positions]) for side in sides]
        samples.append(_correlate(*ranks))
    tail = (1 - CONFIDENCE) / 2
    # samples in which a side is constant have no correlation (NaN) and are ignored
    low, high = np.nanquantile(np.concatenate(samples), [tail, 1 - tail])
    return Estimate(compute_spearman_rho(x, y), float(low), float(high), len(x))


def compute_spearman_rho(x: Sequence[float] | Array, y: Sequence[float] | Array) -> float:
    """Return Spearman's rho of pairs; NaN if a side is constant."""
    return float(_correlate(_compute_ranks(x), _compute_ranks(y)))


def compute_group_association(
    levels: Sequence[str], metric: Sequence[float], rng: np.random.Generator
) -> Association:
    """Test a categorical factor over configurations by the Kruskal-Wallis test.

    Args:
        levels: Level of the factor in each configuration.
        metric: Metric of each configuration, in the same order.
        rng: Generator of the permutations. Unused with up to 7 configurations.

    Returns:
        The association, with a permutation p and without rho. With fewer than MIN_RANKED
        configurations, or if the factor or the metric is constant, p is None as well.
    """
    n, names = len(levels), sorted(set(levels))
    ranks = _compute_ranks(metric)
    if n < MIN_RANKED or _is_constant(ranks) or len(names) < 2:
        return Association(None, None, n)
    has_level = np.array([[level == name for name in names] for level in levels], dtype=np.float64)

    def measure_spread(orders: Array) -> Array:
        """Return the sums of squares between levels, (orders,)."""
        sums = (orders - ranks.mean()) @ has_level
        return np.asarray((sums**2 / has_level.sum(axis=0)).sum(axis=-1))

    p, min_p = _compute_permutation_p(ranks, measure_spread, rng)
    return Association(None, p, n, min_p)


def _compute_ranks(values: Sequence[float] | Array) -> Array:
    """Return ranks from 1. Values that are equal up to rounding get the mean of their ranks."""
    return _average_ties(_compute_dense_ranks(values))


def _compute_dense_ranks(values: Sequence[float] | Array) -> Whole:
    """Return consecutive ranks from 0. Values that are equal up to rounding share a rank."""
    numbers = np.asarray(values, dtype=np.float64)
    order = np.argsort(numbers, kind="stable")
    ascending = numbers[order]
    is_new = np.diff(ascending) > ROUNDING * np.maximum(
        np.abs(ascending[1:]), np.abs(ascending[:-1])
    )
    dense_ranks = np.zeros(len(numbers), np.int64)
    dense_ranks[order[1:]] = np.cumsum(is_new)
    return dense_ranks


def _average_ties(dense_ranks: Whole) -> Array:
    """Turn dense ranks into ranks from 1 in which ties have the mean of their ranks.

    Dense ranks are counted, which is faster than sorting.
    """
    counts = np.bincount(dense_ranks)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[dense_ranks])


def _is_constant(values: Array | Whole) -> bool:
    """Return True if all values are equal."""
    return bool(np.ptp(values) == 0)


def _compute_permutation_p(
    ranks: Array, compute_statistic: Callable[[Array], Array], rng: np.random.Generator
) -> tuple[float, float]:
    """Return the permutation p of an association, and the smallest p that is possible.

    Args:
        ranks: Ranks of the metric in the observed order, (n,).
        compute_statistic: Function from orders of the ranks, (orders, n), to their statistics,
            (orders,).
        rng: Generator of the permutations.

    Returns:
        p, the share of orders whose statistic is at least the observed one, up to rounding; and
        min_p, the share of orders whose statistic is the largest one.
    """
    observed = compute_statistic(ranks)
    statistics = np.concatenate([*map(compute_statistic, _draw_orders(ranks, rng))])
    if len(statistics) == RESAMPLES:  # random permutations, without the observed order
        statistics = np.append(statistics, observed)
    p, min_p = (
        float((statistics >= (1 - ROUNDING) * threshold).mean())
        for threshold in (observed, statistics.max())
    )
    return p, min_p


def _draw_orders(ranks: Array, rng: np.random.Generator) -> Iterator[Array]:
    """Yield orders of the ranks in batches, (orders, n).

    The orders are all permutations if there are fewer than RESAMPLES, else RESAMPLES random ones.
    """
    if math.factorial(len(ranks)) < RESAMPLES:
        yield np.array([*permutations(ranks)])
        return
    for size in _iter_batch_sizes(RESAMPLES, len(ranks)):
        yield rng.permuted(np.tile(ranks, (size, 1)), axis=-1)


def _iter_batch_sizes(count: int, n: int) -> Iterator[int]:
    """Yield the sizes of the batches into which `count` resamples of n values are divided.

    They depend on MAX_BATCH_VALUES. No result depends on them.
    """
    max_size = max(1, MAX_BATCH_VALUES // n)
    yield from (min(max_size, count - first) for first in range(0, count, max_size))


def _correlate(x: Array, y: Array) -> Array:
    """Return the correlation of ranks along the last axis; NaN if a side is constant."""
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    norm = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(axis=-1) / norm)
