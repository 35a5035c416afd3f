"""Intervals, paired comparisons and rank tests of a study; pure functions over numpy.

What they cover: the unit is a seed, that is one few-shot draw, one pseudo-new split and one
initialisation together. The test pictures and the base/new split are the same for every seed, so an
interval says how far the mean would move with other seeds, not with other test pictures.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.80
# Differences whose spread is below this share of their size are one number plus rounding.
ROUNDING = 1e-9
RESAMPLES = 9_999  # orders: the 5040 of 7 settings are counted out, of more settings some are drawn
DRAWS = 2_000  # of the bootstrap


@dataclass(frozen=True)
class Estimate:
    """A mean over n units and its 95% interval (None where n is too small for one)."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """A paired difference to the baseline: estimate, two-sided p and minimum detectable effect."""

    difference: Estimate
    p: float | None
    detectable: float | None


@dataclass(frozen=True)
class Association:
    """Rank association of a factor with a metric over n settings (rho: None if categorical)."""

    rho: Estimate | None
    p: float | None
    n: int


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean and two-sided 95% t-interval, mean ± t(0.975, n - 1) s / sqrt(n).

    Args:
        values: one number a seed, finite, at least one. With one there is no interval.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"need at least one value, all finite, got {list(values)}")
    mean, n = float(array.mean()), int(array.size)
    if n == 1:
        return Estimate(mean, None, None, 1)
    half = _critical(n - 1) * float(array.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


@cache
def _critical(freedom: int) -> float:
    """The two-sided 95% quantile of Student's t; tables ask for the same few thousands of times."""
    from scipy import stats

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))


def compare_paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Comparison | None:
    """Compare two settings on the seeds that both finished.

    Args:
        values, baseline: seed -> metric.

    Returns:
        The mean of value - baseline with its t-interval, the paired t-test's two-sided p, and the
        minimum detectable effect; None without a common seed. p is None with one pair. Where the
        differences do not vary the t-test is undefined: p is 1 if they are all zero, else the exact
        sign test's 2 ** (1 - n), the least that n pairs can show without a variance.
    """
    from scipy import stats

    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    differences = np.array([values[s] - baseline[s] for s in seeds], dtype=np.float64)
    estimate = mean_interval(list(differences))
    n = len(seeds)
    if n == 1:
        return Comparison(estimate, None, None)
    std = float(differences.std(ddof=1))
    scale = max(max(abs(values[s]), abs(baseline[s])) for s in seeds)
    if std <= ROUNDING * scale:
        unmoved = abs(estimate.mean) <= ROUNDING * scale
        return Comparison(estimate, 1.0 if unmoved else 2.0 ** (1 - n), None)
    p = 2 * float(stats.t.sf(abs(estimate.mean) / (std / math.sqrt(n)), n - 1))
    return Comparison(estimate, min(p, 1.0), minimum_detectable(std, n))


def minimum_detectable(std: float, n: int) -> float | None:
    """The true mean difference that a paired t-test of n pairs finds with 80% power (5% two-sided).

    Args:
        std: standard deviation of the paired differences, > 0; the observed one is itself a rough
            guess at small n.
        n: pairs; below 2 nothing is detectable (None).
    """
    from scipy import optimize, stats

    if n < 2 or std <= 0:
        return None
    critical = _critical(n - 1)

    def shortfall(noncentrality: float) -> float:
        # The far tail's share of the power is below 1e-6 here, so one tail is enough.
        return float(stats.nct.sf(critical, n - 1, noncentrality)) - POWER

    # At df = 1 the root is about 3.3 times the critical value, the most that it ever is.
    root = optimize.brentq(shortfall, 0.0, 5 * critical + 5)
    return float(root) * std / math.sqrt(n)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values over one family; None stays None and is not counted."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p))
        adjusted[index] = running
    return adjusted


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
    n = len(factor)
    x, y = _ranks(factor), _ranks(metric)
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Association(None, None, n)
    middle = n * float(x.mean() * y.mean())

    def strength(orders: Array, axis: int) -> Array:
        # sums of quarters: two orders that are as far from none have one number, without rounding
        return np.asarray(np.abs((orders * x).sum(axis=axis) - middle))

    low, high = _bootstrap_rho(x, y, rng)
    rho = Estimate(float(_rho(x, y)), low, high, n)
    return Association(rho, _permutation_p(y, strength, rng), n)


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
    if n < 3 or len(names) < 2 or np.ptp(ranks) == 0:
        return Association(None, None, n)
    member = np.array([[level == name for name in names] for level in levels], dtype=np.float64)

    def between(orders: Array, axis: int) -> Array:
        sums = (np.moveaxis(orders, axis, -1) - ranks.mean()) @ member
        return np.asarray((sums**2 / member.sum(axis=0)).sum(axis=-1))

    return Association(None, _permutation_p(ranks, between, rng), n)


def _ranks(values: Sequence[float] | Array, axis: int | None = None) -> Array:
    """Ranks from 1, ties at their mean rank."""
    from scipy import stats

    ranks = stats.rankdata(np.asarray(values, dtype=np.float64), axis=axis)
    return np.asarray(ranks, dtype=np.float64)


def _permutation_p(
    ranks: Array, statistic: Callable[[Array, int], Array], rng: np.random.Generator
) -> float:
    """Share of orders of `ranks` with a statistic, (orders, n) -> (orders,), at least as large."""
    from scipy import stats

    test = stats.permutation_test(
        (ranks,),
        statistic,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=RESAMPLES,  # where there are fewer orders, each is taken once
        alternative="greater",
        rng=rng,
    )
    return float(test.pvalue)


def _rho(x: Array, y: Array, axis: int = -1) -> Array:
    """Spearman's rho along an axis; not a number where a side is constant."""
    x, y = _ranks(x, axis), _ranks(y, axis)
    x, y = x - x.mean(axis=axis, keepdims=True), y - y.mean(axis=axis, keepdims=True)
    norm = np.sqrt((x**2).sum(axis=axis) * (y**2).sum(axis=axis))
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(axis=axis) / norm)


def _bootstrap_rho(x: Array, y: Array, rng: np.random.Generator) -> tuple[float, float]:
    """Percentile interval of rho over resampled settings; draws with a constant side are void."""
    from scipy import stats

    with warnings.catch_warnings():  # scipy says that void draws leave it without an interval
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        made = stats.bootstrap(
            (x, y), _rho, paired=True, n_resamples=DRAWS, method="percentile", rng=rng
        )
    drawn = made.bootstrap_distribution
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
