"""Verdicts: higher, lower, equivalent or inconclusive."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from reports.stats import (
    MAX_FURTHER_PAIRS,
    Compared,
    Estimate,
    Verdict,
    add_verdicts,
    compare_paired,
    compute_t_critical,
)
from reports.stats.power import _find_further, estimate_further_pairs


def make_difference(mean: float, half: float, n: int = 10) -> Compared:
    """Return a difference whose interval has this half-width."""
    std = half / compute_t_critical(n - 1) * n**0.5
    return Compared(Estimate(mean, mean - half, mean + half, n), std)


def compare_with_zero(values: Sequence[float] | np.ndarray) -> Compared:
    """Compare values with a baseline of zeros."""
    comparison = compare_paired(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    assert comparison is not None
    return comparison


@pytest.mark.parametrize(
    ("mean", "half", "verdict"),
    [
        (0.2, 0.5, Verdict.EQUIVALENT),
        (-0.6, 0.3, Verdict.EQUIVALENT),
        (0.6, 0.5, Verdict.INCONCLUSIVE),
        (1.4, 0.5, Verdict.INCONCLUSIVE),
        (1.6, 0.5, Verdict.HIGHER),
        (-3.0, 0.5, Verdict.LOWER),
    ],
)
def test_the_verdict_on_a_single_difference_follows_its_interval(
    mean: float, half: float, verdict: Verdict
) -> None:
    """The interval is beyond the smallest effect, within it, or contains one of its bounds."""
    (comparison,) = add_verdicts([make_difference(mean, half)], 1.0)
    assert comparison is not None and comparison.verdict is verdict
    assert (comparison.more_seeds is None) == (verdict is not Verdict.INCONCLUSIVE)


def test_a_difference_needs_more_evidence_in_a_larger_family() -> None:
    """One comparison is higher, and the same one in a family of ten is inconclusive.

    Equivalence is not corrected for the size of the family.
    """
    higher, equivalent = make_difference(1.55, 0.5), make_difference(0.2, 0.5)
    family_of_1 = add_verdicts([higher], 1.0)
    family_of_10 = add_verdicts([higher, *[equivalent] * 9], 1.0)
    assert [comparison.verdict for comparison in family_of_1] == [Verdict.HIGHER]
    assert [comparison.verdict for comparison in family_of_10] == [
        Verdict.INCONCLUSIVE,
        *[Verdict.EQUIVALENT] * 9,
    ]


@pytest.mark.parametrize(
    ("mean", "family", "verdict"),
    [
        (0.0, 3, Verdict.EQUIVALENT),
        (0.4, 1, Verdict.EQUIVALENT),
        (1.8, 1, Verdict.HIGHER),
        (2.2, 4, Verdict.HIGHER),
    ],
)
def test_further_seeds_lead_to_a_verdict_with_80_percent_power(
    mean: float, family: int, verdict: Verdict
) -> None:
    """The simulation uses the true mean and standard deviation."""
    rng, std = np.random.default_rng(0), 1.2
    pairs = 5 + _find_further(5, mean, std, 1.0, family)
    differences = rng.normal(mean, std, (3000, pairs))
    means = differences.mean(axis=1)
    errors = differences.std(axis=1, ddof=1) / pairs**0.5
    if verdict is Verdict.EQUIVALENT:
        has_verdict = np.abs(means) + compute_t_critical(pairs - 1) * errors < 1
    else:  # Holm's first step
        has_verdict = means - compute_t_critical(pairs - 1, 0.05 / family) * errors > 1
    assert 0.77 < has_verdict.mean() < 0.88


def test_the_range_of_further_seeds_narrows_with_more_seeds() -> None:
    """The standard deviation over few seeds is uncertain."""
    ratios = []
    for n in (3, 5, 20):
        (comparison,) = add_verdicts(
            [make_difference(0.4, 2.0 * compute_t_critical(n - 1) / n**0.5, n)], 1.0
        )
        assert comparison.more_seeds is not None
        fewest, most = comparison.more_seeds
        ratios.append((n + most) / (n + fewest))
    assert ratios[0] > ratios[1] > ratios[2] > 1.2


def test_further_seeds_of_a_precise_difference_are_few() -> None:
    """The search starts at 250 further seeds, where the noncentrality is 38."""
    assert estimate_further_pairs(5, 1.204, 0.1189, 1.0, 5) == (1, 14)


@pytest.mark.parametrize("mean", [0.0, 0.5, 0.9, 0.99, 1.01, 1.2, 2.0, 5.0])
@pytest.mark.parametrize("std", [0.001, 0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_further_seeds_are_an_ascending_range(n: int, std: float, mean: float) -> None:
    """The lower end is at most the upper end, even for small standard deviations."""
    for family in (1, 5, 100):
        fewest, most = estimate_further_pairs(n, mean, std, 1.0, family)
        assert 1 <= fewest <= most <= MAX_FURTHER_PAIRS + 1


def test_a_verdict_has_its_own_p() -> None:
    """p of higher tests a difference beyond the effect, and p of equivalent one within it."""
    rng = np.random.default_rng(2)
    large, small = rng.normal(2.0, 0.5, 8), rng.normal(0.3, 0.3, 8)
    higher, equivalent = add_verdicts([compare_with_zero(large), compare_with_zero(small)], 1.0)
    beyond_p, within_p = (
        stats.ttest_1samp(large, 1.0).pvalue,
        stats.ttest_1samp(small, 1.0).pvalue / 2,
    )
    assert (higher.verdict, equivalent.verdict) == (Verdict.HIGHER, Verdict.EQUIVALENT)
    assert higher.beyond_p == pytest.approx(min(1, 2 * beyond_p))  # Holm's first step of two
    assert equivalent.within_p == pytest.approx(within_p) and equivalent.within_p < 0.025
    assert higher.holm_p is not None and higher.holm_p < higher.beyond_p


def test_the_same_difference_under_each_seed_has_no_verdict() -> None:
    """A constant difference has no estimate of the noise, and no number of further seeds."""
    constant, zero = add_verdicts([compare_with_zero([3.0] * 6), compare_with_zero([0.0] * 6)], 1.0)
    assert constant.is_constant and constant.verdict is None and constant.more_seeds is None
    assert not zero.is_constant


def test_rows_without_any_difference_are_not_counted_by_holm() -> None:
    """Such rows cannot be significant, and do not raise the p of the others."""
    values = np.random.default_rng(3).normal(1.0, 0.5, 6)
    (single,) = add_verdicts([compare_with_zero(values)], 1.0)
    unchanged_rows = [compare_with_zero([0.0] * 6)] * 5
    first, *unchanged = add_verdicts([compare_with_zero(values), *unchanged_rows], 1.0)
    assert first.holm_p == single.holm_p and first.mde == single.mde
    assert [comparison.holm_p for comparison in unchanged] == [None] * 5


def test_at_most_5_percent_of_families_have_a_false_verdict() -> None:
    """In 1,000 families of six, all true differences are exactly the smallest effect."""
    rng = np.random.default_rng(1)
    n_false = 0
    for _ in range(1000):
        pairs = rng.normal(1.0, 1.0, (6, 8))  # false verdicts are most likely at the effect itself
        comparisons = add_verdicts([compare_with_zero(row) for row in pairs], 1.0)
        n_false += any(comparison.verdict is Verdict.HIGHER for comparison in comparisons)
    assert n_false <= 65  # 50 are expected at most, plus two standard errors


def test_a_family_needs_more_further_seeds_than_one_comparison() -> None:
    """The number of further seeds includes Holm's correction."""
    inconclusive = make_difference(1.4, 0.5)
    (single,) = add_verdicts([inconclusive], 1.0)
    first, *_ = add_verdicts([inconclusive, *[make_difference(0.1, 0.5)] * 7], 1.0)
    assert single.more_seeds is not None and first.more_seeds is not None
    assert first.more_seeds[0] > single.more_seeds[0]


def test_a_difference_equal_to_the_effect_needs_more_seeds_than_are_reported() -> None:
    """Both ends of the range are larger than the largest reported number."""
    (comparison,) = add_verdicts([make_difference(1.0, 0.5)], 1.0)
    assert comparison.more_seeds == (MAX_FURTHER_PAIRS + 1, MAX_FURTHER_PAIRS + 1)
