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
    critical,
)
from reports.stats.power import _find_further, estimate_further_pairs


def difference(mean: float, half: float, n: int = 10) -> Compared:
    """A difference with its interval."""
    std = half / critical(n - 1) * n**0.5
    return Compared(Estimate(mean, mean - half, mean + half, n), std)


def paired(values: Sequence[float] | np.ndarray) -> Compared:
    """Differences of pairs, as they are."""
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
    """The interval is beyond the effect, within it, or contains one of its bounds."""
    (comparison,) = add_verdicts([difference(mean, half)], 1.0)
    assert comparison is not None and comparison.verdict is verdict
    assert (comparison.more_seeds is None) == (verdict is not Verdict.INCONCLUSIVE)


def test_a_difference_needs_more_evidence_in_a_larger_family() -> None:
    """A difference that is higher alone is inconclusive among ten; equivalence is not corrected."""
    near, within = difference(1.55, 0.5), difference(0.2, 0.5)
    alone = add_verdicts([near], 1.0)
    among = add_verdicts([near, *[within] * 9], 1.0)
    assert [comparison.verdict for comparison in alone] == [Verdict.HIGHER]
    assert [comparison.verdict for comparison in among] == [
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
def test_further_seeds_settle_a_difference_with_80_percent_power(
    mean: float, family: int, verdict: Verdict
) -> None:
    """The power is simulated with the true mean and standard deviation."""
    rng, std = np.random.default_rng(0), 1.2
    pairs = 5 + _find_further(5, mean, std, 1.0, family)
    drawn = rng.normal(mean, std, (3000, pairs))
    means, errors = drawn.mean(axis=1), drawn.std(axis=1, ddof=1) / pairs**0.5
    if verdict is Verdict.EQUIVALENT:
        settled = np.abs(means) + critical(pairs - 1) * errors < 1
    else:  # Holm's first step
        settled = means - critical(pairs - 1, 0.05 / family) * errors > 1
    assert 0.77 < settled.mean() < 0.88


def test_the_range_of_further_seeds_narrows_with_more_seeds() -> None:
    """After few seeds the standard deviation is poorly known."""
    ratios = []
    for n in (3, 5, 20):
        (comparison,) = add_verdicts([difference(0.4, 2.0 * critical(n - 1) / n**0.5, n)], 1.0)
        assert comparison.more_seeds is not None
        fewest, most = comparison.more_seeds
        ratios.append((n + most) / (n + fewest))
    assert ratios[0] > ratios[1] > ratios[2] > 1.2


def test_further_seeds_of_a_precise_difference_are_few() -> None:
    """Few further seeds suffice, although 250 would have a noncentrality of 38."""
    assert estimate_further_pairs(5, 1.204, 0.1189, 1.0, 5) == (1, 14)


@pytest.mark.parametrize("mean", [0.0, 0.5, 0.9, 0.99, 1.01, 1.2, 2.0, 5.0])
@pytest.mark.parametrize("std", [0.001, 0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_further_seeds_are_an_ascending_range(n: int, std: float, mean: float) -> None:
    """The fewest are never more than the most, also for small standard deviations."""
    for family in (1, 5, 100):
        fewest, most = estimate_further_pairs(n, mean, std, 1.0, family)
        assert 1 <= fewest <= most <= MAX_FURTHER_PAIRS + 1


def test_a_verdict_has_its_own_p() -> None:
    """p of higher is for a difference beyond the effect, p of equivalent for one within it."""
    rng = np.random.default_rng(2)
    far, near = rng.normal(2.0, 0.5, 8), rng.normal(0.3, 0.3, 8)
    decided, equal = add_verdicts([paired(far), paired(near)], 1.0)
    expected = stats.ttest_1samp(far, 1.0).pvalue, stats.ttest_1samp(near, 1.0).pvalue / 2
    assert (decided.verdict, equal.verdict) == (Verdict.HIGHER, Verdict.EQUIVALENT)
    assert decided.beyond_p == pytest.approx(min(1, 2 * expected[0]))  # Holm's first of two
    assert equal.within_p == pytest.approx(expected[1]) and equal.within_p < 0.025
    assert decided.holm_p is not None and decided.holm_p < decided.beyond_p


def test_the_same_difference_under_each_seed_has_no_verdict() -> None:
    """A constant difference has no estimate of the noise, and no number of further seeds."""
    constant, zero = add_verdicts([paired([3.0] * 6), paired([0.0] * 6)], 1.0)
    assert constant.is_constant and constant.verdict is None and constant.more_seeds is None
    assert not zero.is_constant


def test_rows_without_any_difference_are_not_counted_by_holm() -> None:
    """They cannot differ significantly, and must not hide the rows that do."""
    values = np.random.default_rng(3).normal(1.0, 0.5, 6)
    (alone,) = add_verdicts([paired(values)], 1.0)
    among, *same = add_verdicts([paired(values), *[paired([0.0] * 6)] * 5], 1.0)
    assert among.holm_p == alone.holm_p and among.mde == alone.mde
    assert [comparison.holm_p for comparison in same] == [None] * 5


def test_at_most_5_percent_of_families_have_a_false_verdict() -> None:
    """In 1,000 families of six, all true differences are exactly the smallest effect."""
    rng = np.random.default_rng(1)
    called = 0
    for _ in range(1000):
        pairs = rng.normal(1.0, 1.0, (6, 8))  # the true difference is the effect: the worst null
        comparisons = add_verdicts([paired(row) for row in pairs], 1.0)
        called += any(comparison.verdict is Verdict.HIGHER for comparison in comparisons)
    assert called <= 65  # 50 expected at the most, and three standard errors


def test_a_family_needs_more_further_seeds_than_one_comparison() -> None:
    """The number of further seeds includes Holm's correction."""
    near = difference(1.4, 0.5)
    (alone,) = add_verdicts([near], 1.0)
    among, *_ = add_verdicts([near, *[difference(0.1, 0.5)] * 7], 1.0)
    assert (
        alone.more_seeds is not None
        and among.more_seeds is not None
        and among.more_seeds[0] > alone.more_seeds[0]
    )


def test_a_difference_equal_to_the_effect_needs_more_seeds_than_are_reported() -> None:
    """Both ends of the range are above the largest reported number."""
    (comparison,) = add_verdicts([difference(1.0, 0.5)], 1.0)
    assert comparison.more_seeds == (MAX_FURTHER_PAIRS + 1, MAX_FURTHER_PAIRS + 1)
