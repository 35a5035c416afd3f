"""Share of the variance between configurations that a term explains, and its p.

Seeds are the blocks; values are (S configurations, R seeds). A term's contrasts under one seed are
a vector. Because seeds are independent, the inner product of two seeds' vectors is an unbiased
estimate of the squared length of the expected vector. This does not require that all configurations
have the same noise. If they do, the share is omega squared (Hays, "Statistics", 1963).

Interval: the delete-one jackknife over seeds with Student's t (Arvesen, "Jackknifing U-statistics",
Annals of Mathematical Statistics 40, 1969).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reports.analysis.contrasts import Model, Term
from reports.stats import Array, Estimate, critical, scale_of, without_rounding

MIN_FOR_INTERVAL = 3  # seeds: with one left out, two remain for a product
_NOTHING = 1e-12  # share of a sum of squares that counts as rounding


def term_contrasts(term: Term, values: Array) -> Array:
    """Return a term's contrasts under each seed, (..., df, R), with rounding errors set to 0.

    Args:
        term: Term of the model of the S configurations.
        values: (..., S, R).
    """
    projected = np.moveaxis(np.tensordot(term.basis, values, axes=(0, -2)), 0, -2)
    return without_rounding(projected, scale_of(values))


def seed_products(values: Array, model: Model) -> Array:
    """Return the inner products between seeds' vectors, (2 + T, R, R).

    Args:
        values: (S, R).
        model: Model of the S configurations, with T terms.

    Returns:
        A matrix for the differences of all configurations from their mean, one for the residuals
        after all terms, and one for the contrasts of each term.
    """
    scale = scale_of(values)
    centered = without_rounding(values - values.mean(axis=0), scale)
    residual = without_rounding(values - model.span @ (model.span.T @ values), scale)
    parts = (centered, residual, *(term_contrasts(term, values) for term in model.terms))
    return np.array([part.T @ part for part in parts])


def share_of_variance(part: Array, total: Array) -> Estimate | None:
    """Return a part's share of the variance between configurations, with its interval.

    Args:
        part: Matrix of the part (see products), (R, R).
        total: Matrix of all differences between configurations, (R, R).

    Returns:
        A percentage from 0 to 100; n is the number of seeds. There is no interval with fewer than
        three seeds. None if the configurations do not differ beyond the noise of seeds.
    """
    n, min_total = len(total), _NOTHING * float(np.trace(total))

    def ratio(seeds: Sequence[int]) -> float | None:
        positions = np.ix_(seeds, seeds)
        total_square = expected_square(total[positions])
        return expected_square(part[positions]) / total_square if total_square > min_total else None

    share = ratio(range(n))
    if share is None:
        return None
    dropped_seeds = range(n) if n >= MIN_FOR_INTERVAL else ()
    shares = [
        ratio([seed for seed in range(n) if seed != dropped_seed]) for dropped_seed in dropped_seeds
    ]
    jackknife_shares = [value for value in shares if value is not None]
    if len(jackknife_shares) < n:
        return Estimate(_percent(share), None, None, n)
    half = critical(n - 1) * math.sqrt((n - 1) * float(np.var(jackknife_shares)))
    return Estimate(_percent(share), _percent(share - half), _percent(share + half), n)


def noise_percentage(total: Array) -> float | None:
    """Return the percentage of the variance between configurations' means over seeds that is noise.

    Args:
        total: Matrix of all differences between configurations (see products), (R, R).

    Returns:
        None with one seed, or if the means do not differ.
    """
    n = len(total)
    observed_square = float(total.sum()) / n**2
    if n < 2 or observed_square <= 0:
        return None
    return _percent(1 - expected_square(total) / observed_square)


def expected_square(products: Array) -> float:
    """Estimate the squared length of the expected vector.

    With one seed this is the squared length of its vector, which includes noise.

    Args:
        products: Inner products between seeds' vectors, (R, R).
    """
    n = len(products)
    if n == 1:
        return float(products[0, 0])
    return float(products.sum() - np.trace(products)) / (n * (n - 1))


def _percent(share: float) -> float:
    return 100 * min(max(share, 0.0), 1.0)


def common_share(values: Array) -> Array:
    """Return the share of a term's squares that is common to all seeds, (...,), from 0 to 1.

    If q is this share, F = (R - 1) q / (1 - q) has df and df (R - 1) degrees of freedom. This is
    the block ANOVA's F, which tests the term against its interaction with seeds.

    Args:
        values: Contrasts, (..., df, R).
    """
    squares = (values**2).sum(axis=(-2, -1))
    common_squares = values.shape[-1] * (values.mean(axis=-1) ** 2).sum(axis=-1)
    return np.asarray(
        np.divide(common_squares, squares, out=np.zeros_like(common_squares), where=squares > 0)
    )


class BlockTest(NamedTuple):
    """Result of an F test with seeds as blocks.

    Attributes:
        statistic: F of the term.
        numerator_df: Degrees of freedom of the numerator, multiplied by epsilon (see block_f).
        p: p of the hypothesis of no effect.
    """

    statistic: float
    numerator_df: float
    p: float


def block_f(values: Array) -> BlockTest:
    """Test a term by the block ANOVA's F, with Greenhouse and Geisser's degrees of freedom.

    The F test assumes that all contrasts of the term vary equally from seed to seed. One noisy
    configuration, or levels that are nearly tied, violate this, and F is then too often large.
    Multiplying both degrees of freedom by epsilon corrects for it (Greenhouse and Geisser, "On
    methods in the analysis of profile data", Psychometrika 24, 1959). With few seeds, epsilon is
    underestimated. The test is then conservative and misses some weak effects.

    If the contrasts do not vary, F is infinite and p is that of the exact sign test.

    Args:
        values: Contrasts, (df, R), R > 1.
    """
    from scipy import special

    df, n_seeds = values.shape
    share = float(common_share(values))
    if not df or not share:
        return BlockTest(0.0, float(df), 1.0)
    if share >= 1 - _NOTHING:
        return BlockTest(math.inf, float(df), 2.0 ** (1 - n_seeds))
    statistic = (n_seeds - 1) * share / (1 - share)
    corrected_df = epsilon(values) * df
    return BlockTest(
        statistic,
        corrected_df,
        float(special.fdtrc(corrected_df, corrected_df * (n_seeds - 1), statistic)),
    )


def epsilon(values: Array) -> float:
    """Return Greenhouse and Geisser's epsilon: 1 if all contrasts vary equally, 1/df if one varies.

    Args:
        values: Orthonormal contrasts that vary over seeds, (df, R).
    """
    deviations = values - values.mean(axis=-1, keepdims=True)
    deviations /= np.abs(deviations).max()  # fourth powers of large numbers overflow
    # both products have the same trace and the same sum of squares; the smaller one is computed
    products = (
        deviations.T @ deviations
        if deviations.shape[0] > deviations.shape[1]
        else deviations @ deviations.T
    )
    return float(np.trace(products) ** 2 / (values.shape[0] * (products**2).sum()))
