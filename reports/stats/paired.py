"""Paired comparisons of two configurations over seeds, families of comparisons, and verdicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from harness.intervals import (
    ROUNDING,
    Estimate,
    mean_interval,
    scale_of,
    t_tail,
    without_rounding,
)
from reports.stats.power import further_pairs, minimum_detectable

CHANCE = 0.05  # significance level of corrected p-values


class Verdict(StrEnum):
    """Verdict on a difference, relative to the smallest effect of interest.

    HIGHER, LOWER: the interval is outside ±effect, Holm-corrected over the family. EQUIVALENT: the
    95% interval is within ±effect. INCONCLUSIVE: neither.
    """

    HIGHER = "higher"
    LOWER = "lower"
    INCONCLUSIVE = "inconclusive"
    EQUIVALENT = "equivalent"

    @property
    def is_different(self) -> bool:
        """Whether the difference exceeds the smallest effect of interest."""
        return self in (Verdict.HIGHER, Verdict.LOWER)

    @property
    def reversed(self) -> "Verdict":
        """The verdict with both sides of the comparison exchanged."""
        return {Verdict.HIGHER: Verdict.LOWER, Verdict.LOWER: Verdict.HIGHER}.get(self, self)


@dataclass(frozen=True)
class Compared:
    """A difference to a baseline with its tests.

    Attributes:
        difference: Mean difference over pairs; n is the number of pairs.
        std: Standard deviation of the pairs' differences; None if they do not vary, or with one
            pair.
        p: Two-sided p of this difference, without correction.
        holm_p: p corrected over the family; None if there is no test, or if all differences are 0.
        mde: Smallest difference that a test with this many pairs detects; None if unknown.
        verdict: Verdict against the smallest effect of interest; None if there is no such effect,
            or if the difference is the same under each seed.
        effect: Smallest effect of interest; None without one.
        beyond_p: p of the hypothesis that the true difference is within ±effect, corrected over the
            family.
        within_p: p of the hypothesis that the true difference is outside ±effect: the larger p of
            two one-sided tests. The verdict requires 2.5%.
        more_seeds: Fewest and most further pairs that settle the verdict with 80% power: at the
            lower and the upper end of the standard deviation's interval (see further_pairs). None
            if it is settled, or if the standard deviation is unknown.
        classes: Interval of the difference over other test classes, if known.
        n_classes: Number of classes behind that interval; of two halves, the smaller number.
        is_unchanged: Whether every compared result equals the baseline's.
        datasets: Number of datasets in the difference, and their total; None if it averages none or
            all of them.
        decimals: Number of decimals of the metric.
    """

    difference: Estimate
    std: float | None = None
    p: float | None = None
    holm_p: float | None = None
    mde: float | None = None
    verdict: Verdict | None = None
    effect: float | None = None
    beyond_p: float | None = None
    within_p: float | None = None
    more_seeds: tuple[int, int] | None = None
    classes: Estimate | None = None
    n_classes: int = 0
    is_unchanged: bool = False
    datasets: tuple[int, int] | None = None
    decimals: int = 1

    @property
    def is_constant(self) -> bool:
        """Whether the difference is the same under each of several seeds, and is not 0."""
        difference = self.difference
        return difference.n > 1 and difference.low is None and difference.mean != 0


def is_beyond_chance(p: float | None) -> bool:
    """Return True if a corrected p is significant."""
    return p is not None and p < CHANCE


def compare_paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Compared | None:
    """Compare two configurations by a paired t-test on the seeds that both finished.

    Args:
        values: Metric of the configuration by seed.
        baseline: Metric of the baseline by seed.

    Returns:
        The mean of value - baseline with its t-interval and the two-sided p of the paired t-test;
        None without a common seed. p is None with one pair. If the differences do not vary, the
        t-test is undefined and there is no interval: p is 1 if they are all zero, else the exact
        sign test's 2 ** (1 - n), the smallest p that n pairs can have without a variance.

    Example:
        >>> comparison = compare_paired({0: 61.0, 1: 63.0}, {0: 60.0, 1: 61.0, 2: 60.0})
        >>> comparison.difference.mean, comparison.difference.n
        (1.5, 2)
    """
    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    scale = scale_of([(values[s], baseline[s]) for s in seeds])
    differences = without_rounding([values[s] - baseline[s] for s in seeds], scale)
    estimate = mean_interval(list(differences))
    n = len(seeds)
    if n == 1:
        return Compared(estimate)
    std = float(differences.std(ddof=1))
    if std <= ROUNDING * scale:
        constant = Estimate(estimate.mean, None, None, n)
        return Compared(constant, p=2.0 ** (1 - n) if differences.any() else 1.0)
    return Compared(estimate, std, _t_test(abs(estimate.mean), std, n))


def one_sample_p(values: Sequence[float]) -> float | None:
    """Return the two-sided p of the t-test that the mean is 0; None with one value or no spread."""
    if mean_interval(values).low is None:
        return None
    return _t_test(abs(float(np.mean(values))), float(np.std(values, ddof=1)), len(values))


def _t_test(distance: float, std: float, n: int) -> float:
    """Return the two-sided p that the mean of n values differs by a distance from the tested value.

    Args:
        distance: Distance of the mean; below 0 if the mean is within the tested range.
        std: Standard deviation of the values.
        n: Number of values.
    """
    return min(1.0, 2 * t_tail(distance / (std / math.sqrt(n)), n - 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust the p-values of one family by Holm's step-down method (Holm, 1979).

    Args:
        p_values: Uncorrected p-values. None is not counted as a test and stays None.

    Example:
        >>> holm([0.01, None, 0.04])
        [0.02, None, 0.04]
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted_ps: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p))
        adjusted_ps[index] = running
    return adjusted_ps


def add_verdicts(family: Sequence[Compared], effect: float | None) -> list[Compared]:
    """Add Holm's p and verdicts to differences that are tested together.

    A row is higher or lower if the interval lies outside ±effect: Student's t of |mean| - effect,
    two-sided, Holm-corrected over the family. It is equivalent if its 95% interval lies within
    ±effect, that is by two one-sided tests at 2.5% (Schuirmann, 1987). This is not corrected,
    because a claim that all are equivalent needs no correction.

    Args:
        family: Comparisons made by compare_paired.
        effect: Smallest effect of interest, > 0, in the unit of the differences. None for no
            verdicts.
    """
    # exact zeros are not counted as tests: there is nothing to detect
    holm_ps = holm(
        [
            comparison.p if comparison.std or comparison.difference.mean else None
            for comparison in family
        ]
    )
    tests = max(1, sum(p is not None for p in holm_ps))
    tested_family = [
        replace(
            comparison,
            holm_p=p,
            mde=minimum_detectable(comparison.std, comparison.difference.n, tests),
        )
        for comparison, p in zip(family, holm_ps, strict=True)
    ]
    if effect is None:
        return tested_family
    beyond_ps = holm([_beyond_p(comparison, effect) for comparison in tested_family])
    count = sum(p is not None for p in beyond_ps)
    return [
        _add_verdict(comparison, p, effect, count)
        for comparison, p in zip(tested_family, beyond_ps, strict=True)
    ]


def _add_verdict(comparison: Compared, p: float | None, effect: float, family: int) -> Compared:
    """Return a comparison with its verdict, and if inconclusive with further pairs."""
    comparison_with_p = replace(
        comparison, effect=effect, beyond_p=p, within_p=_within_p(comparison, effect)
    )
    low, high = comparison.difference.low, comparison.difference.high
    if comparison_with_p.is_constant:
        return comparison_with_p
    if p is not None and p < CHANCE:
        is_higher = comparison.difference.mean > 0
        return replace(comparison_with_p, verdict=Verdict.HIGHER if is_higher else Verdict.LOWER)
    if low is not None and high is not None and -effect < low and high < effect:
        return replace(comparison_with_p, verdict=Verdict.EQUIVALENT)
    n, mean = comparison.difference.n, abs(comparison.difference.mean)
    more_seeds = further_pairs(n, mean, comparison.std, effect, family) if comparison.std else None
    return replace(comparison_with_p, verdict=Verdict.INCONCLUSIVE, more_seeds=more_seeds)


def _beyond_p(comparison: Compared, effect: float) -> float | None:
    """Return the two-sided p of the hypothesis that the true difference is within ±effect."""
    distance = abs(comparison.difference.mean) - effect
    return _t_test(distance, comparison.std, comparison.difference.n) if comparison.std else None


def _within_p(comparison: Compared, effect: float) -> float | None:
    """Return the p of the hypothesis that the true difference is outside ±effect.

    It is the larger p of two one-sided tests.
    """
    if not comparison.std:
        return None
    n = comparison.difference.n
    return t_tail(
        (effect - abs(comparison.difference.mean)) / (comparison.std / math.sqrt(n)), n - 1
    )
