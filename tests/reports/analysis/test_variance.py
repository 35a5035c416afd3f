"""Shares of variance and block tests, against simulation and against plain formulas."""

import numpy as np
import pytest
from scipy import stats

from reports.analysis.contrasts import distinct, grid_model
from reports.analysis.layout import Varied
from reports.analysis.variance import (
    block_f,
    contrasts,
    grid_p,
    noise,
    over_seeds,
    products,
    share,
)
from reports.read import Factor
from reports.stats import Array


def two_factors(first: int, second: int) -> tuple[Varied, ...]:
    """The factors of a complete grid."""
    codes = np.indices((first, second)).reshape(2, -1)
    return tuple(
        Varied(Factor(f"f{i}", tuple(range(n)), False, 0), tuple(range(n)), codes[i])
        for i, n in enumerate((first, second))
    )


def drawn(effect: Array, seeds: int, rng: np.random.Generator) -> Array:
    """H of settings under seeds: a seed's own part, the effect, noise."""
    return np.asarray(
        effect[:, None] + rng.normal(0, 1.5, seeds) + rng.normal(0, 0.7, (len(effect), seeds))
    )


def test_intervals_hold_the_true_share() -> None:
    """Of 600 studies of five seeds 93% to 99% have the true share in their interval."""
    rng = np.random.default_rng(1)
    model = grid_model(two_factors(3, 4))
    effect = np.add.outer([0.0, 0.7, 2.0], [0.0, 0.5, 1.0, 0.2]).ravel()
    by_first = effect.reshape(3, 4).mean(axis=1)
    true, held = 100 * by_first.var() / effect.var(), 0
    for _ in range(600):
        total, _, first, *_ = products(drawn(effect, 5, rng), model)
        made = share(first, total)
        assert made is not None and made.low is not None and made.high is not None
        held += made.low <= true <= made.high
    assert 0.93 <= held / 600 <= 0.99


def test_block_f_of_one_contrast_is_the_paired_t() -> None:
    """With two levels F is the square of the paired t-test's t, with the same p."""
    values = drawn(np.array([0.0, 1.0]), 6, np.random.default_rng(3))
    contrast = np.array([[-1.0, 1.0]]) / np.sqrt(2)
    f, p = block_f(contrast @ values)
    t = stats.ttest_rel(values[1], values[0])
    assert (f, p) == pytest.approx((t.statistic**2, t.pvalue))


def test_permutation_p_is_uniform_where_the_factor_does_nothing() -> None:
    """p is below a tenth in a tenth of studies in which another factor has a large effect."""
    rng = np.random.default_rng(4)
    factors = two_factors(2, 4)
    model = grid_model(factors)
    effect = np.tile([0.0, 4.0, 8.0, 2.0], 2)
    p = [grid_p(drawn(effect, 5, rng), factors, model.terms[0], rng) for _ in range(400)]
    assert 0.06 < np.mean([one is not None and one <= 0.1 for one in p]) < 0.14


def test_permutation_counts_out_a_case_by_hand() -> None:
    """Two settings, seven seeds, all differences of one sign: 2 of 128 orders are as extreme."""
    factors = (two_factors(2, 1)[0],)
    values = np.vstack([np.zeros(7), [1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.3]])
    p = grid_p(values, factors, grid_model(factors).terms[0], np.random.default_rng(0))
    assert p == pytest.approx(2 / 128, abs=0.012)


def test_no_share_where_settings_differ_by_noise_alone() -> None:
    """Where seeds disagree about everything there is nothing to share out."""
    own = np.array([[1.0, -0.5], [-0.5, 1.0]])
    assert share(own, own) is None
    assert noise(own) == 100


def test_two_seeds_have_no_interval() -> None:
    """One seed less would leave nothing to multiply."""
    own = np.array([[1.0, 0.5], [0.5, 1.0]])
    made = share(own / 2, own)
    assert made is not None and (made.mean, made.low, made.high, made.n) == (50, None, None, 2)


@pytest.mark.parametrize(("levels", "seeds"), [((2, 4), 4), ((3, 4), 5), ((5, 5), 10), ((2, 3), 4)])
def test_a_factor_that_changes_nothing_has_neither_share_nor_test(
    levels: tuple[int, int], seeds: int
) -> None:
    """Results are the same bit for bit: what rounding leaves of contrasts is no interaction."""
    rng, factors = np.random.default_rng(5), two_factors(*levels)
    model = grid_model(factors)
    for _ in range(50):
        of_first = 60 + rng.normal(0, 1.5, seeds) + rng.normal(0, 1, (levels[0], seeds))
        values = np.repeat(of_first, levels[1], axis=0)
        total, _, _, *parts = products(values, model)
        # the second factor, and its pair with the first
        for term, part in zip(model.terms[1:], parts, strict=True):
            assert block_f(contrasts(term, values)) == (0.0, 1.0)
            found = share(part, total)
            assert found is None or (found.mean, found.high or 0) == (0, 0)
        assert grid_p(values, factors, model.terms[1], rng) == 1


@pytest.mark.parametrize(("levels", "seeds"), [((3, 3), 4), ((3, 2), 5)])
def test_levels_with_the_same_results_are_one_level_to_a_test(
    levels: tuple[int, int], seeds: int
) -> None:
    """Else contrasts of fewer dimensions than levels call 9% to 13% of null studies at 5%."""
    rng, factors, p = np.random.default_rng(8), two_factors(*levels), []
    model = grid_model(factors)
    for _ in range(1_000):
        noise = rng.normal(0, 0.7, (*levels, seeds))
        noise[1] = noise[0]
        whole = 60 + noise.reshape(-1, seeds) + rng.normal(0, 1.5, seeds)
        values, apart, thinned = distinct(whole, factors, model)
        assert len(values) == (levels[0] - 1) * levels[1] and len(apart[0].levels) == 2
        p.append(block_f(contrasts(thinned.terms[2], values))[1])
    assert 0.035 < np.mean(np.array(p) < 0.05) < 0.065


def test_levels_that_differ_once_are_two_levels() -> None:
    """One result of one seed tells them apart; settings that one of them lacks do, too."""
    factors = two_factors(2, 3)
    model = grid_model(factors)
    values = np.tile(60.0 + np.arange(12.0).reshape(3, 4), (2, 1))
    assert len(distinct(values, factors, model)[0]) == 3
    values[4, 2] += 0.1
    assert distinct(values, factors, model)[2] is model


def test_settings_that_are_all_the_same_have_nothing_to_share_out() -> None:
    """Not even what the means over them are rounded by."""
    values = np.tile(60 + np.random.default_rng(6).normal(0, 1.5, 7), (12, 1))
    total, _, first, *_ = products(values, grid_model(two_factors(3, 4)))
    assert share(first, total) is None and noise(total) is None


def test_constant_contrasts_have_no_part() -> None:
    """Without any difference nothing is common to the seeds; without noise all is."""
    assert over_seeds(np.zeros((2, 5))) == 0
    assert block_f(np.ones((1, 5)))[1] == 2.0**-4
