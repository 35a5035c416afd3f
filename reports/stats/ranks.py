"""Rank tests over the settings of a study."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from harness.intervals import CONFIDENCE, ROUNDING, Array, Estimate, Whole

RESAMPLES = 9_999  # orders: the 5040 of 7 settings are counted out, of more settings some are drawn
DRAWS = 2_000  # of the bootstrap
# numbers; with 2 million, which no cache holds, a bootstrap takes four times as long
MOST_HELD = 200_000
FEWEST_RANKED = 3  # settings; the order of two says nothing


@dataclass(frozen=True)
class Association:
    """Rank association of a factor with a metric over n settings (rho: None if categorical).

    p: None where one of the two does not vary. least: the smallest p that any order of these
    settings has; few settings, or many ties, leave none below 0.05.
    """

    rho: Estimate | None
    p: float | None
    n: int
    least: float | None = None


def rank_correlation(
    factor: Sequence[float], metric: Sequence[float], rng: np.random.Generator
) -> Association:
    """Spearman's rho over settings; percentile bootstrap interval, permutation p.

    p is exact up to 7 settings, else from 9,999 seeded orders. Without at least three settings, or
    with a constant side, there is no rho.

    Args:
        factor: a number for each setting.
        metric: what each setting reached, in the same order.
        rng: draws the orders and the bootstrap's settings.
    """
    n, rho = len(factor), _rank_interval(factor, metric, rng)
    if rho is None:
        return Association(None, None, n)
    x, y = _ranks(factor), _ranks(metric)
    middle = n * float(x.mean() * y.mean())

    def strength(orders: Array) -> Array:
        return np.asarray(np.abs((orders * x).sum(axis=-1) - middle))

    p, least = _permuted(y, strength, rng)
    return Association(rho, p, n, least)


def _rank_interval(
    one: Sequence[float], other: Sequence[float], rng: np.random.Generator
) -> Estimate | None:
    """Spearman's rho over pairs with its percentile bootstrap interval, without a test.

    Args:
        one, other: a number each of every pair.
        rng: draws the bootstrap's pairs.

    Returns:
        None with fewer than three pairs, or with a constant side.
    """
    sides = [_tied(values) for values in (one, other)]
    if len(one) < FEWEST_RANKED or any(map(_is_flat, sides)):
        return None
    drawn = []
    for size in _batches(DRAWS, len(one)):
        places = rng.integers(0, len(one), (size, len(one)))
        drawn.append(_rho(*(np.apply_along_axis(_mid_ranks, -1, side[places]) for side in sides)))
    tail = (1 - CONFIDENCE) / 2
    # draws with a constant side are void
    low, high = np.nanquantile(np.concatenate(drawn), [tail, 1 - tail])
    return Estimate(correlation(one, other), float(low), float(high), len(one))


def correlation(x: Sequence[float] | Array, y: Sequence[float] | Array) -> float:
    """Spearman's rho of pairs; neither side may be constant."""
    return float(_rho(_ranks(x), _ranks(y)))


def rank_groups(
    levels: Sequence[str], metric: Sequence[float], rng: np.random.Generator
) -> Association:
    """Kruskal-Wallis test of a categorical factor over settings, p by permutation.

    Args:
        levels: the factor's level in each setting.
        metric: what each setting reached, in the same order.
        rng: draws the orders where there are too many to count out (see rank_correlation).
    """
    n, names = len(levels), sorted(set(levels))
    ranks = _ranks(metric)
    if n < FEWEST_RANKED or _is_flat(ranks) or len(names) < 2:
        return Association(None, None, n)
    member = np.array([[level == name for name in names] for level in levels], dtype=np.float64)

    def between(orders: Array) -> Array:
        sums = (orders - ranks.mean()) @ member
        return np.asarray((sums**2 / member.sum(axis=0)).sum(axis=-1))

    p, least = _permuted(ranks, between, rng)
    return Association(None, p, n, least)


def _ranks(values: Sequence[float] | Array) -> Array:
    """Ranks from 1; values that are equal but for rounding are tied, at their mean rank."""
    return _mid_ranks(_tied(values))


def _tied(values: Sequence[float] | Array) -> Whole:
    """Whole numbers from 0 in the order of the values, which are one where these are tied."""
    found = np.asarray(values, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    ascending = found[order]
    apart = np.diff(ascending) > ROUNDING * np.maximum(
        np.abs(ascending[1:]), np.abs(ascending[:-1])
    )
    places = np.zeros(len(found), np.int64)
    places[order[1:]] = np.cumsum(apart)
    return places


def _mid_ranks(places: Whole) -> Array:
    """The ranks of whole numbers from 0; by counting, since a bootstrap would sort every draw."""
    counts = np.bincount(places)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[places])


def _is_flat(values: Array | Whole) -> bool:
    """Whether all are one."""
    return bool(np.ptp(values) == 0)


def _permuted(
    ranks: Array, statistic: Callable[[Array], Array], rng: np.random.Generator
) -> tuple[float, float]:
    """p and the least p of an Association.

    p is the share of orders of `ranks` with a statistic, (orders, n) -> (orders,), that is at least
    as large, but for rounding; the least p is that of the order with the largest one.
    """
    seen, found = statistic(ranks), np.concatenate([*map(statistic, _orders(ranks, rng))])
    if len(found) == RESAMPLES:  # drawn ones, and so without the seen one
        found = np.append(found, seen)
    p, least = (float((found >= (1 - ROUNDING) * one).mean()) for one in (seen, found.max()))
    return p, least


def _orders(ranks: Array, rng: np.random.Generator) -> Iterator[Array]:
    """Batches of orders, (orders, n): each once, or RESAMPLES drawn ones where there are more."""
    if math.factorial(len(ranks)) < RESAMPLES:
        yield np.array([*permutations(ranks)])
        return
    for size in _batches(RESAMPLES, len(ranks)):
        yield rng.permuted(np.tile(ranks, (size, 1)), axis=-1)


def _batches(count: int, n: int) -> Iterator[int]:
    """So many resamples of n values, as batches that memory holds; no result depends on them."""
    most = max(1, MOST_HELD // n)
    yield from (min(most, count - first) for first in range(0, count, most))


def _rho(x: Array, y: Array) -> Array:
    """Correlation of ranks along the last axis; not a number where a side is constant."""
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    norm = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(axis=-1) / norm)
