"""Shares of variance and block tests, compared with simulations and plain formulas."""

import numpy as np
import pytest
from scipy import stats

from harness.store import FactorRecord
from reports.analysis.contrasts import build_model
from reports.analysis.design import VariedFactor
from reports.analysis.variance import (
    block_f,
    compute_common_share,
    compute_noise_percentage,
    compute_seed_products,
    compute_share_of_variance,
    compute_term_contrasts,
    epsilon,
)
from reports.stats import Array


def two_factors(first: int, second: int) -> tuple[VariedFactor, ...]:
    """The factors of a complete grid."""
    codes = np.indices((first, second)).reshape(2, -1)
    return tuple(
        VariedFactor(FactorRecord(f"f{i}", tuple(range(n)), False, 0), tuple(range(n)), codes[i])
        for i, n in enumerate((first, second))
    )


def drawn(effect: Array, seeds: int, rng: np.random.Generator) -> Array:
    """H of settings under seeds: a seed's own part, the effect, noise."""
    return np.asarray(
        effect[:, None] + rng.normal(0, 1.5, seeds) + rng.normal(0, 0.7, (len(effect), seeds))
    )


def test_intervals_contain_the_true_share() -> None:
    """The interval contains the true share in 93% to 99% of 600 studies of five seeds."""
    rng = np.random.default_rng(1)
    model = build_model(two_factors(3, 4))
    effect = np.add.outer([0.0, 0.7, 2.0], [0.0, 0.5, 1.0, 0.2]).ravel()
    by_first = effect.reshape(3, 4).mean(axis=1)
    true, n_covered = 100 * by_first.var() / effect.var(), 0
    for _ in range(600):
        total, _, first, *_ = compute_seed_products(drawn(effect, 5, rng), model)
        estimate = compute_share_of_variance(first, total)
        assert estimate is not None and estimate.low is not None and estimate.high is not None
        n_covered += estimate.low <= true <= estimate.high
    assert 0.93 <= n_covered / 600 <= 0.99


def test_block_f_of_one_contrast_is_the_paired_t() -> None:
    """With two levels, F is the square of the paired t-test's t and has the same p."""
    values = drawn(np.array([0.0, 1.0]), 6, np.random.default_rng(3))
    contrast = np.array([[-1.0, 1.0]]) / np.sqrt(2)
    t = stats.ttest_rel(values[1], values[0])
    assert block_f(contrast @ values) == pytest.approx((t.statistic**2, 1, t.pvalue))


def unequal(kind: str, seeds: int, rng: np.random.Generator) -> Array:
    """Results of a 3 x 4 grid without any effect, (12, seeds), whose noise differs by kind."""
    noise = rng.normal(0, 0.7, (3, 4, seeds))
    if kind == "one configuration":
        noise[0, 0] *= 8 / 0.7
    elif kind == "one level":
        noise[0] *= 5 / 0.7
    elif kind == "near ties":
        noise[1] = noise[0] + rng.normal(0, 0.001, (4, seeds))
    elif kind == "ties":
        noise[1] = noise[0]
    return np.asarray(60 + noise.reshape(12, seeds) + rng.normal(0, 1.5, seeds))


@pytest.mark.parametrize("kind", ["equal", "one configuration", "one level", "near ties", "ties"])
def test_unequal_noise_is_not_flagged_as_an_effect(kind: str) -> None:
    """In studies without effects, each term is significant in at most 5%."""
    model, rng = build_model(two_factors(3, 4)), np.random.default_rng(8)
    called = np.zeros(3)
    for _ in range(600):
        values = unequal(kind, 5, rng)
        called += [block_f(compute_term_contrasts(term, values)).p < 0.05 for term in model.terms]
    assert called.max() / 600 < 0.072  # 5% and 2.5 standard errors of 600 studies


def test_epsilon_is_between_1_over_df_and_1() -> None:
    """It is 1 if all contrasts vary independently, and 1/df if they vary together."""
    rng = np.random.default_rng(2)
    line = rng.normal(size=6)
    assert epsilon(np.outer([1.0, 2.0, -1.0], line)) == pytest.approx(1 / 3)
    apart = np.linalg.qr(np.hstack([np.ones((6, 1)), rng.normal(size=(6, 3))]))[0][:, 1:].T
    assert epsilon(apart) == pytest.approx(1)


def test_there_is_no_share_if_configurations_differ_only_by_noise() -> None:
    """If seeds disagree completely, there is no variance to divide among factors."""
    products = np.array([[1.0, -0.5], [-0.5, 1.0]])
    assert compute_share_of_variance(products, products) is None
    assert compute_noise_percentage(products) == 100


def test_two_seeds_have_no_interval() -> None:
    """With one of two seeds left out, no product between seeds remains."""
    products = np.array([[1.0, 0.5], [0.5, 1.0]])
    estimate = compute_share_of_variance(products / 2, products)
    assert estimate is not None and (estimate.mean, estimate.low, estimate.high, estimate.n) == (
        50,
        None,
        None,
        2,
    )


@pytest.mark.parametrize(("levels", "seeds"), [((2, 4), 4), ((3, 4), 5), ((5, 5), 10), ((2, 3), 4)])
def test_a_factor_without_effect_has_no_share_and_no_test(
    levels: tuple[int, int], seeds: int
) -> None:
    """Results are equal bit for bit, and rounding errors of contrasts are no interaction."""
    rng, factors = np.random.default_rng(5), two_factors(*levels)
    model = build_model(factors)
    for _ in range(50):
        of_first = 60 + rng.normal(0, 1.5, seeds) + rng.normal(0, 1, (levels[0], seeds))
        values = np.repeat(of_first, levels[1], axis=0)
        total, _, _, *parts = compute_seed_products(values, model)
        # the second factor, and its pair with the first
        for term, part in zip(model.terms[1:], parts, strict=True):
            assert block_f(compute_term_contrasts(term, values)) == (
                0.0,
                term.degrees_of_freedom,
                1.0,
            )
            estimate = compute_share_of_variance(part, total)
            assert estimate is None or (estimate.mean, estimate.high or 0) == (0, 0)


def test_equal_configurations_have_no_variance() -> None:
    """Rounding errors of the means over configurations are no variance, either."""
    values = np.tile(60 + np.random.default_rng(6).normal(0, 1.5, 7), (12, 1))
    total, _, first, *_ = compute_seed_products(values, build_model(two_factors(3, 4)))
    assert (
        compute_share_of_variance(first, total) is None and compute_noise_percentage(total) is None
    )


def test_constant_contrasts_are_not_divided_by_0() -> None:
    """Zero contrasts have the common share 0, and equal ones have the p of the sign test."""
    assert compute_common_share(np.zeros((2, 5))) == 0
    assert block_f(np.ones((1, 5))).p == 2.0**-4
