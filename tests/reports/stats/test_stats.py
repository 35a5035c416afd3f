"""Statistics agree with SciPy and with formulas, for any numbers."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats as reference

from reports.stats import (
    adjust_by_holm,
    compare_paired,
    compute_group_association,
    compute_mean_interval,
    compute_minimum_detectable,
    compute_one_sample_p,
    compute_percent_interval,
    compute_rank_correlation,
    compute_spearman_rho,
)

percent = st.floats(0, 100, allow_nan=False)
p_values = st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=12)
by_seed = st.dictionaries(st.integers(0, 15), percent, min_size=1, max_size=12)


@given(st.lists(percent, min_size=2, max_size=12))
def test_interval_agrees_with_scipy(values: Sequence[float]) -> None:
    """The t-interval equals SciPy's and contains its mean."""
    estimate = compute_mean_interval(values)
    sem = reference.sem(values)
    assert estimate.mean == pytest.approx(sum(values) / len(values))
    if np.std(values, ddof=1) <= 1e-9 * max(map(abs, values)):
        assert estimate.low is None and estimate.high is None
        return
    assert estimate.low is not None and estimate.high is not None
    if sem > 1e-9:
        low, high = reference.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=sem)
        assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.low <= estimate.mean <= estimate.high


def test_percent_interval_equals_a_calculation_by_hand() -> None:
    """Near 100, the upper side of the interval is shorter than the lower side."""
    estimate = compute_percent_interval([96.0, 98.0, 99.0])
    mean = 293 / 3
    half = 4.3026527 * math.sqrt(7 / 3 / 3) / (mean * (1 - mean / 100))
    middle = math.log(mean / (100 - mean))
    expected = [100 / (1 + math.exp(half - middle)), 100 / (1 + math.exp(-half - middle))]
    assert [estimate.low, estimate.high] == pytest.approx(expected)
    assert estimate.high is not None and 98 < estimate.high < 100


@given(st.lists(percent, min_size=2, max_size=12))
def test_percent_interval_stays_on_the_scale(values: Sequence[float]) -> None:
    """The interval contains its mean and is between 0 and 100. Missing ends are None."""
    estimate = compute_percent_interval(values)
    if estimate.low is None or estimate.high is None:
        assert np.ptp(values) <= 1e-6 or estimate.mean in (0.0, 100.0)
    else:
        assert 0 <= estimate.low <= estimate.mean + 1e-9
        assert estimate.mean - 1e-9 <= estimate.high <= 100


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_interval_rejects_empty_and_non_finite_samples(values: Sequence[float]) -> None:
    """The sample raises an error, so that no table contains NaN."""
    with pytest.raises(ValueError, match="at least one value, all finite"):
        compute_mean_interval(values)


@given(by_seed, by_seed)
def test_comparison_agrees_with_scipy(a: dict[int, float], b: dict[int, float]) -> None:
    """Interval and p equal those of SciPy's paired t-test if the differences vary."""
    common = sorted(a.keys() & b.keys())
    differences = [a[s] - b[s] for s in common]
    result = compare_paired(a, b)
    assert (result is None) == (not common)
    if result is None or len(common) < 2 or np.std(differences) < 1e-3:
        return
    expected = reference.ttest_rel([a[s] for s in common], [b[s] for s in common])
    assert result.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    low, high = expected.confidence_interval(0.95)
    assert (result.difference.low, result.difference.high) == pytest.approx((low, high))


@example([0.0, 2e-246])
@given(st.lists(percent, min_size=2, max_size=12))
def test_one_sample_p_is_scipys(values: list[float]) -> None:
    """p of a mean against 0 equals SciPy's. It is None if the values do not vary."""
    result = compute_one_sample_p(values)
    if result is None:
        assert np.ptp(values) <= 1e-9 * max(map(abs, values)) or np.std(values) == 0
    elif np.std(values) > 1e-3:
        expected = reference.ttest_1samp(values, 0.0).pvalue
        assert result == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("n", "error", "p"), [(1, 0.0, None), (2, 0.0, 1.0), (4, 7e-15, 1.0)])
def test_identical_configurations_do_not_differ(n: int, error: float, p: float | None) -> None:
    """Rounding errors do not count as differences, and there is no standard deviation."""
    values = {seed: 60.1 + seed for seed in range(n)}
    result = compare_paired({s: v + error * s for s, v in values.items()}, values)
    assert result is not None
    assert (result.difference.mean, result.p, result.std) == (0.0, p, None)
    assert result.difference.low is None


@pytest.mark.parametrize(("n", "p"), [(2, 0.5), (5, 0.0625), (10, 2**-9)])
def test_constant_difference_falls_back_to_the_sign_test(n: int, p: float) -> None:
    """Differences that are constant up to rounding have the p of the exact sign test."""
    baseline = {seed: 50 + 0.1 * seed for seed in range(n)}
    result = compare_paired({seed: value + 1.3 for seed, value in baseline.items()}, baseline)
    assert result is not None
    assert result.p == pytest.approx(p)
    assert result.p == pytest.approx(reference.binomtest(n, n, 0.5).pvalue)


@given(p_values, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order_of_levels(values: list[float], random: object) -> None:
    """A level has the same adjusted p at any position."""
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = adjust_by_holm([values[i] for i in order])
    assert [shuffled[order.index(i)] for i in range(len(values))] == adjust_by_holm(values)


def test_holm_equals_a_calculation_by_hand() -> None:
    """The adjusted p are 4 * .01, 3 * .02 and 2 * .03, and never less than the one before."""
    assert adjust_by_holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


@pytest.mark.parametrize(("n", "comparisons"), [(6, 1), (6, 8), (2, 200), (2, 5_000)])
def test_minimum_detectable_effect_is_detected_with_80_percent_power(
    n: int, comparisons: int
) -> None:
    """Holm's first step is significant in 80% of simulated studies with this effect."""
    effect = compute_minimum_detectable(2.0, n, comparisons)
    assert effect is not None
    rng = np.random.default_rng(0)
    differences = rng.normal(effect, 2.0, size=(20_000, n))
    is_rejected = reference.ttest_1samp(differences, 0.0, axis=1).pvalue < 0.05 / comparisons
    assert is_rejected.mean() == pytest.approx(0.80, abs=0.01)


@pytest.mark.parametrize(("std", "n"), [(1.0, 1), (0.0, 5)])
def test_minimum_detectable_effect_needs_pairs_that_vary(std: float, n: int) -> None:
    """Without a positive standard deviation, the effect is None."""
    assert compute_minimum_detectable(std, n) is None


def test_rank_correlation_of_few_configurations_is_exact() -> None:
    """For four configurations in perfect order, rho is 1, and 2 of 24 orders are as extreme."""
    result = compute_rank_correlation([1, 2, 3, 4], [5, 6, 7, 9], np.random.default_rng(0))
    assert result.rho is not None
    assert (result.rho.mean, result.p) == pytest.approx((1.0, 2 / 24))


@pytest.mark.parametrize(
    ("x", "y", "min_p"),
    [
        ([1, 2, 3], [9, 5, 7], 2 / 6),
        ([1, 2, 3, 4], [5, 9, 6, 7], 2 / 24),
        ([1, 1, 1, 2], [5, 9, 6, 7], 2 / 4),  # the 2 has the lowest or the highest result
        ([1, 1, 1, 1, 1, 1, 1, 2], [5, 9, 6, 7, 1, 2, 3, 4], 2 / 8),
        (list(range(9)), [5, 9, 6, 7, 1, 2, 3, 4, 0], 1e-4),
    ],
)
def test_min_p_is_that_of_the_most_extreme_order(
    x: list[float], y: list[float], min_p: float
) -> None:
    """With many configurations, the minimum is based on random orders."""
    result = compute_rank_correlation(x, y, np.random.default_rng(0))
    assert result.min_p == pytest.approx(min_p, abs=0 if len(x) < 8 else 0.02)
    assert result.p is not None and result.min_p is not None and result.p >= result.min_p - 1e-12


def test_rank_correlation_agrees_with_scipy() -> None:
    """With ties, rho equals SciPy's, and p is close to the asymptotic p."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 10, 40).astype(float)
    y = x + rng.normal(0, 6, 40)
    result = compute_rank_correlation(list(x), list(y), np.random.default_rng(0))
    expected = reference.spearmanr(x, y)
    assert result.rho is not None and result.p is not None
    assert result.rho.mean == pytest.approx(expected.statistic)
    assert result.p == pytest.approx(expected.pvalue, abs=0.01)
    assert result.rho.low is not None and result.rho.high is not None
    assert -1 <= result.rho.low < result.rho.mean < result.rho.high <= 1


@pytest.mark.parametrize(("x", "y"), [([1, 2], [3, 4]), ([1, 1, 1], [1, 2, 3]), ([], [])])
def test_rank_correlation_needs_three_configurations_that_vary(
    x: list[float], y: list[float]
) -> None:
    """Two configurations, and constant values, have no correlation."""
    result = compute_rank_correlation(x, y, np.random.default_rng(0))
    assert (result.rho, result.p, result.n) == (None, None, len(x))


def test_ranks_of_numbers_that_differ_by_rounding_are_tied() -> None:
    """Rounding errors of results have no order. Small levels of a logarithmic factor have one."""
    levels = [1e-12, 1e-6, 1e-3, 1.0]
    rounded = [60.0, 60.0 + 7e-15, 60.0 + 1.4e-14, 60.0 + 2.1e-14]
    assert compute_rank_correlation(levels, rounded, np.random.default_rng(0)).p is None
    assert (
        compute_group_association(["a", "a", "b", "b"], rounded, np.random.default_rng(0)).p is None
    )
    assert compute_spearman_rho(levels, [1.0, 2.0, 3.0, 4.0]) == 1
    tied = [60.0, 60.0 + 7e-15, 61.0, 62.0]
    assert compute_spearman_rho(levels, tied) == compute_spearman_rho(
        levels, [60.0, 60.0, 61.0, 62.0]
    )


def test_rank_groups_agrees_with_scipy() -> None:
    """The permutation p of a categorical factor is close to the asymptotic Kruskal-Wallis p."""
    rng = np.random.default_rng(1)
    groups = {"coop": rng.normal(0, 1, 15), "tip_adapter": rng.normal(0.8, 1, 15)}
    levels = [name for name in groups for _ in range(15)]
    values = [float(v) for group in groups.values() for v in group]
    result = compute_group_association(levels, values, np.random.default_rng(0))
    assert result.p == pytest.approx(reference.kruskal(*groups.values()).pvalue, abs=0.01)
