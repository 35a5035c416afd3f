"""Paired comparisons of two configurations over seeds, Holm's correction, and verdicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from harness.intervals import (
    ROUNDING,
    Estimate,
    compute_mean_interval,
    compute_scale,
    compute_t_tail,
    remove_rounding_errors,
)
from reports.stats.power import compute_minimum_detectable, estimate_further_pairs

CHANCE = 0.05  # significance level of corrected p-values


class Verdict(StrEnum):
    """Verdict on a difference, relative to the smallest effect of interest (see add_verdicts).

    - HIGHER, LOWER: the difference is significantly beyond ±effect, Holm-corrected over the family.
    - EQUIVALENT: the 95% interval is within ±effect.
    - INCONCLUSIVE: neither.
    """

    HIGHER = "higher"
    LOWER = "lower"
    INCONCLUSIVE = "inconclusive"
    EQUIVALENT = "equivalent"

    @property
    def is_different(self) -> bool:
        """Whether the verdict is HIGHER or LOWER."""
        return self in (Verdict.HIGHER, Verdict.LOWER)

    @property
    def reversed(self) -> "Verdict":
        """The verdict after exchanging both sides of the comparison."""
        return {Verdict.HIGHER: Verdict.LOWER, Verdict.LOWER: Verdict.HIGHER}.get(self, self)


@dataclass(frozen=True)
class Compared:
    """The difference of a configuration to a baseline, with tests of this difference.

    Attributes:
        difference: Mean difference over pairs; n is the number of pairs. There is one pair per
            seed that both sides finished.
        std: Standard deviation of the pairs' differences. None with one pair, or if they do not
            vary.
        p: Uncorrected two-sided p-value of the null hypothesis that the true difference is 0. None
            with one pair.
        holm_p: p with Holm's correction over the family: the comparisons that add_verdicts tests
            together. None if p is None, or if all differences are 0.
        mde: Minimum detectable effect of a test with this many pairs. None if std is None.
        verdict: Verdict relative to the smallest effect of interest. None if there is no such
            effect, if is_unchanged, or if is_constant.
        effect: Smallest effect of interest. None without one.
        beyond_p: p-value of the null hypothesis that the true difference is within ±effect, with
            Holm's correction over the family. None if std or effect is None.
        within_p: p-value of the null hypothesis that the true difference is outside ±effect: the
            larger of two one-sided p-values, uncorrected. EQUIVALENT requires that it is below
            2.5%. None if std or effect is None.
        more_seeds: Estimated number of further pairs for a verdict other than INCONCLUSIVE with 80%
            power, as (fewest, most), see estimate_further_pairs. None unless the verdict is
            INCONCLUSIVE and std is known.
        classes: The difference with its interval over other test classes. None if unknown.
        n_classes: Number of test classes behind that interval. For a harmonic mean or an average,
            the smallest such number among its parts. 0 without an interval.
        is_unchanged: Whether every compared result equals the baseline's.
        datasets: Number of datasets in the difference, and the total number. None if the difference
            is not an average over datasets, or averages all of them.
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
        """Whether the difference is the same under several seeds, but not 0."""
        difference = self.difference
        return difference.n > 1 and difference.low is None and difference.mean != 0


def is_significant(p: float | None) -> bool:
    """Return True if a corrected p is significant; False for None."""
    return p is not None and p < CHANCE


def compare_paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Compared | None:
    """Compare two configurations by a paired t-test on the seeds that both finished.

    Args:
        values: Metric of the configuration by seed.
        baseline: Metric of the baseline by seed.

    Returns:
        The mean of value - baseline with its t-interval, and the two-sided p of the paired t-test.
        None without a common seed. With one pair, p is None.

        If the differences do not vary, the t-test is undefined and there is no interval. p is then
        1 if all differences are 0. Otherwise it is that of the exact sign test, 2 ** (1 - n) for n
        differences with the same sign.

    Example:
        >>> comparison = compare_paired({0: 61.0, 1: 63.0}, {0: 60.0, 1: 61.0, 2: 60.0})
        >>> comparison.difference.mean, comparison.difference.n
        (1.5, 2)
    """
    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    scale = compute_scale([(values[s], baseline[s]) for s in seeds])
    differences = remove_rounding_errors([values[s] - baseline[s] for s in seeds], scale)
    estimate = compute_mean_interval(list(differences))
    n = len(seeds)
    if n == 1:
        return Compared(estimate)
    std = float(differences.std(ddof=1))
    if std <= ROUNDING * scale:
        constant = Estimate(estimate.mean, None, None, n)
        return Compared(constant, p=2.0 ** (1 - n) if differences.any() else 1.0)
    return Compared(estimate, std, _compute_t_test_p(abs(estimate.mean), std, n))


def compute_one_sample_p(values: Sequence[float]) -> float | None:
    """Return the two-sided p of the t-test that the mean is 0.

    Return None for a single value, or if all values are equal.
    """
    if compute_mean_interval(values).low is None:
        return None
    return _compute_t_test_p(
        abs(float(np.mean(values))), float(np.std(values, ddof=1)), len(values)
    )


def _compute_t_test_p(distance: float, std: float, n: int) -> float:
    """Return the two-sided p of a t-test.

    Args:
        distance: Distance of the observed mean from the tested value or range. Negative if the mean
            is inside the range; p is then 1.
        std: Standard deviation of the values.
        n: Number of values.
    """
    return min(1.0, 2 * compute_t_tail(distance / (std / math.sqrt(n)), n - 1))


def adjust_by_holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust the p-values of one family by Holm's step-down method (Holm, 1979).

    Args:
        p_values: Uncorrected p-values. None is not counted as a test.

    Returns:
        The adjusted p-values in the same order, with None in the same positions.

    Example:
        >>> adjust_by_holm([0.01, None, 0.04])
        [0.02, None, 0.04]
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted_ps: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted_ps[index] = largest
    return adjusted_ps


def add_verdicts(family: Sequence[Compared], effect: float | None) -> list[Compared]:
    """Add corrected p-values and verdicts to comparisons that are tested together.

    - HIGHER, LOWER: the difference is significantly beyond ±effect, by a two-sided t-test of
      |mean| - effect that is Holm-corrected over the family.
    - EQUIVALENT: the 95% interval of the difference is within ±effect. This is the same as two
      one-sided tests at 2.5% (Schuirmann, 1987). They are not corrected, because the claim that all
      levels are equivalent needs no correction.
    - INCONCLUSIVE: all other differences, except those that are constant and not 0, which get no
      verdict.

    Args:
        family: Comparisons made by compare_paired.
        effect: Smallest effect of interest, > 0, in the unit of the differences. None for no
            verdicts.

    Returns:
        The comparisons in the same order, with mde and holm_p. If there is an `effect`, the fields
        that depend on it are set as well.
    """
    # comparisons whose differences are all 0 are not counted as tests
    holm_ps = adjust_by_holm(
        [None if _is_zero(comparison) else comparison.p for comparison in family]
    )
    n_tests = max(1, sum(p is not None for p in holm_ps))
    tested_family = [
        replace(
            comparison,
            holm_p=p,
            mde=compute_minimum_detectable(comparison.std, comparison.difference.n, n_tests),
        )
        for comparison, p in zip(family, holm_ps, strict=True)
    ]
    if effect is None:
        return tested_family
    beyond_ps = adjust_by_holm(
        [_compute_beyond_p(comparison, effect) for comparison in tested_family]
    )
    n_tests = sum(p is not None for p in beyond_ps)
    return [
        _add_verdict(comparison, p, effect, n_tests)
        for comparison, p in zip(tested_family, beyond_ps, strict=True)
    ]


def _is_zero(comparison: Compared) -> bool:
    """Return True if all differences of a comparison are 0."""
    return comparison.std is None and comparison.difference.mean == 0


def _add_verdict(
    comparison: Compared, beyond_p: float | None, effect: float, n_tests: int
) -> Compared:
    """Return a comparison with its verdict and the other fields that depend on `effect`.

    Args:
        comparison: Comparison with the baseline.
        beyond_p: Value of its field beyond_p.
        effect: Smallest effect of interest.
        n_tests: Number of comparisons whose beyond_p are corrected together.
    """
    difference, std = comparison.difference, comparison.std
    tested = replace(
        comparison, effect=effect, beyond_p=beyond_p, within_p=_compute_within_p(comparison, effect)
    )
    if tested.is_constant:
        return tested
    if is_significant(beyond_p):
        verdict = Verdict.HIGHER if difference.mean > 0 else Verdict.LOWER
        return replace(tested, verdict=verdict)
    low, high = difference.low, difference.high
    if low is not None and high is not None and -effect < low and high < effect:
        return replace(tested, verdict=Verdict.EQUIVALENT)
    more_seeds = None
    if std is not None:
        more_seeds = estimate_further_pairs(
            difference.n, abs(difference.mean), std, effect, n_tests
        )
    return replace(tested, verdict=Verdict.INCONCLUSIVE, more_seeds=more_seeds)


def _compute_beyond_p(comparison: Compared, effect: float) -> float | None:
    """Return Compared.beyond_p before correction; None if std is None."""
    if comparison.std is None:
        return None
    distance = abs(comparison.difference.mean) - effect
    return _compute_t_test_p(distance, comparison.std, comparison.difference.n)


def _compute_within_p(comparison: Compared, effect: float) -> float | None:
    """Return Compared.within_p; None if std is None."""
    if comparison.std is None:
        return None
    n = comparison.difference.n
    distance = effect - abs(comparison.difference.mean)
    return compute_t_tail(distance / (comparison.std / math.sqrt(n)), n - 1)
