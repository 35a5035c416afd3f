"""Two settings compared seed by seed, families of comparisons, and whether a difference matters."""

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

CHANCE = 0.05  # a corrected p below it is beyond chance


class Verdict(StrEnum):
    """What an interval says about the smallest effect of interest.

    DECIDED: the interval lies outside ±effect, Holm-corrected over the family. EQUIVALENT: the 95%
    interval lies within it, in both directions. UNDECIDED: neither.
    """

    DECIDED = "decided"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Compared:
    """A difference to a baseline, and all that is known of it.

    difference: over pairs, as many as its n.
    std: standard deviation of the pairs' differences; None where they do not vary, or with one.
    p: two-sided, of this difference alone.
    holm_p: corrected over its family; None where no test is made, or all differences are 0.
    detectable: the smallest difference that as many pairs would find; None where it is not known.
    verdict: against the smallest effect of interest; None where nothing is judged, and where the
        difference is the same under each seed.
    effect: the smallest effect of interest; None where nothing is judged.
    beyond_p: that the true difference is within ±effect, corrected over the family.
    within_p: that the true difference is outside ±effect: the larger p of two one-sided tests. The
        verdict asks for 2.5%.
    pairs_more: further pairs that settle it with 80% power, the fewest and the most (see
        further_pairs). None where it is settled, or where nothing is known of the deviation.
    classes: the difference's interval over other test classes, if there is one.
    n_classes: Number of classes behind it, of the half that has fewer.
    is_unchanged: whether every result that is compared is exactly the baseline's.
    datasets: how many of how many the difference is over; None: it is over no datasets, or all.
    decimals: of the metric.
    """

    difference: Estimate
    std: float | None = None
    p: float | None = None
    holm_p: float | None = None
    detectable: float | None = None
    verdict: Verdict | None = None
    effect: float | None = None
    beyond_p: float | None = None
    within_p: float | None = None
    pairs_more: tuple[int, int] | None = None
    classes: Estimate | None = None
    n_classes: int = 0
    is_unchanged: bool = False
    datasets: tuple[int, int] | None = None
    decimals: int = 1

    @property
    def is_constant(self) -> bool:
        """Return True if the difference is the same under each of several seeds, and is not 0."""
        difference = self.difference
        return difference.n > 1 and difference.low is None and difference.mean != 0


def is_beyond_chance(p: float | None) -> bool:
    """Whether a corrected p says that there is an effect."""
    return p is not None and p < CHANCE


def compare_paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Compared | None:
    """Compare two settings on the seeds that both finished.

    Args:
        values, baseline: seed -> metric.

    Returns:
        The mean of value - baseline with its t-interval, and the paired t-test's two-sided p; None
        without a common seed. p is None with one pair. Where the differences do not vary the t-test
        is undefined and there is no interval: p is 1 if they are all zero, else the exact sign
        test's 2 ** (1 - n), the least that n pairs can show without a variance.
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
        alone = Estimate(estimate.mean, None, None, n)
        return Compared(alone, p=2.0 ** (1 - n) if differences.any() else 1.0)
    return Compared(estimate, std, _t_test(abs(estimate.mean), std, n))


def one_sample_p(values: Sequence[float]) -> float | None:
    """Two-sided p of the t-test that the mean is 0; None with one value, or without a spread."""
    if mean_interval(values).low is None:
        return None
    return _t_test(abs(float(np.mean(values))), float(np.std(values, ddof=1)), len(values))


def _t_test(distance: float, std: float, n: int) -> float:
    """Two-sided p that the mean of n values is a distance away from where it would be by chance.

    Args:
        distance: below 0 where the mean lies within what is tested.
        std: standard deviation of the values.
        n: how many these are.
    """
    return min(1.0, 2 * t_tail(distance / (std / math.sqrt(n)), n - 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values over one family; None stays None and is not counted."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p))
        adjusted[index] = running
    return adjusted


def judge(family: Sequence[Compared], effect: float | None) -> list[Compared]:
    """Return differences that are tested together, with Holm's p and the verdicts.

    A difference is decided if its interval lies outside ±effect: Student's t of |mean| - effect,
    two-sided, Holm-corrected over the family. It is equivalent where its 95% interval lies within
    ±effect, that is by two one-sided tests at 2.5% (Schuirmann, 1987); that is not corrected, since
    a claim that all are equivalent needs no correction.

    Args:
        family: as compare_paired gives them.
        effect: the smallest effect of interest, > 0, in the differences' unit; None: there is none.
    """
    # exact zeros are no test: nothing that could be found is among them
    corrected = holm([one.p if one.std or one.difference.mean else None for one in family])
    tests = max(1, sum(p is not None for p in corrected))
    found = [
        replace(one, holm_p=p, detectable=minimum_detectable(one.std, one.difference.n, tests))
        for one, p in zip(family, corrected, strict=True)
    ]
    if effect is None:
        return found
    beyond = holm([_beyond_p(one, effect) for one in found])
    count = sum(p is not None for p in beyond)
    return [_judged(one, p, effect, count) for one, p in zip(found, beyond, strict=True)]


def _judged(one: Compared, p: float | None, effect: float, family: int) -> Compared:
    tested = replace(one, effect=effect, beyond_p=p, within_p=_within_p(one, effect))
    low, high = one.difference.low, one.difference.high
    if tested.is_constant:
        return tested
    if p is not None and p < CHANCE:
        return replace(tested, verdict=Verdict.DECIDED)
    if low is not None and high is not None and -effect < low and high < effect:
        return replace(tested, verdict=Verdict.EQUIVALENT)
    n, mean = one.difference.n, abs(one.difference.mean)
    more = further_pairs(n, mean, one.std, effect, family) if one.std else None
    return replace(tested, verdict=Verdict.UNDECIDED, pairs_more=more)


def _beyond_p(one: Compared, effect: float) -> float | None:
    """Return the two-sided p that the true difference is within ±effect."""
    distance = abs(one.difference.mean) - effect
    return _t_test(distance, one.std, one.difference.n) if one.std else None


def _within_p(one: Compared, effect: float) -> float | None:
    """Return the larger p of two one-sided tests that the true difference is outside ±effect."""
    if not one.std:
        return None
    n = one.difference.n
    return t_tail((effect - abs(one.difference.mean)) / (one.std / math.sqrt(n)), n - 1)
