"""Share of the variance between configurations that a term explains, and the test of the term.

A study has S configurations, each with R seeds, which are the blocks of the ANOVA. Under each seed,
a term (see contrasts.py) has a vector of df contrasts. Seeds are independent, so the inner product
of the vectors of two seeds is an unbiased estimate of the squared length of the expected vector,
even if some configurations are noisier than others. If all are equally noisy, the share of the
variance is omega squared (Hays, "Statistics", 1963).

The share's interval is a delete-one jackknife over seeds with Student's t (Arvesen, "Jackknifing
U-statistics", Annals of Mathematical Statistics 40, 1969).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reports.analysis.contrasts import ContrastModel, Term
from reports.stats import Array, Estimate, compute_scale, compute_t_critical, remove_rounding_errors

MIN_SEEDS_FOR_INTERVAL = 3  # the jackknife leaves one out, and an inner product needs two
_ROUNDING_SHARE = 1e-12  # smaller fractions of a sum of squares count as rounding errors


def compute_term_contrasts(term: Term, values: Array) -> Array:
    """Return a term's contrasts under each seed, (..., df, R), with rounding errors set to 0.

    Args:
        term: Term of the model of the S configurations.
        values: Results, (..., S, R).
    """
    projected = np.moveaxis(np.tensordot(term.basis, values, axes=(0, -2)), 0, -2)
    return remove_rounding_errors(projected, compute_scale(values))


def compute_seed_products(values: Array, model: ContrastModel) -> Array:
    """Return matrices of the inner products of the vectors of any two seeds, (2 + T, R, R).

    Args:
        values: Results, (S, R).
        model: Model of the S configurations, with T terms.

    Returns:
        One matrix per kind of vector: first the configurations' differences from the mean of all,
        then the residuals after all terms, then the contrasts of each of the T terms.
    """
    scale = compute_scale(values)
    centered = remove_rounding_errors(values - values.mean(axis=0), scale)
    residuals = remove_rounding_errors(values - model.span @ (model.span.T @ values), scale)
    contrasts = [compute_term_contrasts(term, values) for term in model.terms]
    return np.array([vectors.T @ vectors for vectors in (centered, residuals, *contrasts)])


def compute_share_of_variance(part: Array, total: Array) -> Estimate | None:
    """Return the share of the variance between configurations that a term or the rest explains.

    Args:
        part: Matrix of the term or of the residuals, (R, R), see compute_seed_products.
        total: Matrix of the configurations' differences from the mean of all, (R, R).

    Returns:
        A percentage from 0 to 100 with its interval; n is the number of seeds. The interval is
        missing with fewer than MIN_SEEDS_FOR_INTERVAL seeds, or if the share is undefined when
        one of the seeds is left out. None if the configurations do not differ beyond the noise of
        seeds.
    """
    n, min_total = len(total), _ROUNDING_SHARE * float(np.trace(total))

    def compute_share(seeds: Sequence[int]) -> float | None:
        positions = np.ix_(seeds, seeds)
        total_square = estimate_expected_square(total[positions])
        return (
            estimate_expected_square(part[positions]) / total_square
            if total_square > min_total
            else None
        )

    share = compute_share(range(n))
    if share is None:
        return None
    left_out_seeds = range(n) if n >= MIN_SEEDS_FOR_INTERVAL else ()
    shares = [
        compute_share([seed for seed in range(n) if seed != left_out])
        for left_out in left_out_seeds
    ]
    jackknife_shares = [value for value in shares if value is not None]
    if len(jackknife_shares) < n:
        return Estimate(_clip_to_percent(share), None, None, n)
    half_width = compute_t_critical(n - 1) * math.sqrt((n - 1) * float(np.var(jackknife_shares)))
    low, high = share - half_width, share + half_width
    return Estimate(_clip_to_percent(share), _clip_to_percent(low), _clip_to_percent(high), n)


def compute_noise_percentage(total: Array) -> float | None:
    """Return the percentage of noise in the variance between the configurations' means over seeds.

    Args:
        total: Matrix of the configurations' differences from the mean of all, (R, R), see
            compute_seed_products.

    Returns:
        A number from 0 to 100. None with one seed, or if the means do not differ.
    """
    n = len(total)
    observed_square = float(total.sum()) / n**2
    if n < 2 or observed_square <= 0:
        return None
    return _clip_to_percent(1 - estimate_expected_square(total) / observed_square)


def estimate_expected_square(products: Array) -> float:
    """Estimate the squared length of the expected vector of a seed, without noise.

    The estimate is unbiased, so it may be negative. With a single seed, the noise cannot be
    removed: the result is the squared length of the seed's vector.

    Args:
        products: Inner products of the vectors of any two seeds, (R, R), see compute_seed_products.
    """
    n = len(products)
    if n == 1:
        return float(products[0, 0])
    return float(products.sum() - np.trace(products)) / (n * (n - 1))


def _clip_to_percent(share: float) -> float:
    """Return a fraction as a percentage, clipped to 0 to 100."""
    return 100 * min(max(share, 0.0), 1.0)


def compute_common_share(values: Array) -> Array:
    """Return the share q of a term's sum of squares that is common to all seeds, (...,).

    The block ANOVA tests the term against its interaction with seeds. Its F is
    (R - 1) q / (1 - q), with df and df (R - 1) degrees of freedom.

    Args:
        values: Contrasts under each seed, (..., df, R).

    Returns:
        Numbers from 0 to 1. 0 if all contrasts are 0.
    """
    squares = (values**2).sum(axis=(-2, -1))
    mean_squares = values.shape[-1] * (values.mean(axis=-1) ** 2).sum(axis=-1)
    return np.asarray(
        np.divide(mean_squares, squares, out=np.zeros_like(mean_squares), where=squares > 0)
    )


class BlockTest(NamedTuple):
    """Result of an F test with seeds as blocks.

    Attributes:
        statistic: F of the term.
        numerator_df: Degrees of freedom of the numerator, multiplied by epsilon (see
            compute_block_f).
        p: p-value under the null hypothesis of no effect.
    """

    statistic: float
    numerator_df: float
    p: float


def compute_block_f(values: Array) -> BlockTest:
    """Test a term by the block ANOVA's F, with Greenhouse and Geisser's degrees of freedom.

    The F test assumes that all contrasts of the term vary equally from seed to seed. With one noisy
    configuration, or nearly tied levels, they do not, and the test rejects too often. As a
    correction, both degrees of freedom are multiplied by epsilon (Greenhouse and Geisser, "On
    methods in the analysis of profile data", Psychometrika 24, 1959). With few seeds, epsilon is
    underestimated: the test is then conservative and misses some weak effects.

    Args:
        values: Contrasts under each seed, (df, R), with R > 1.

    Returns:
        The test. If the contrasts are the same under all seeds, F is infinite and p is that of the
        exact sign test. If all contrasts are 0, or if df is 0, F is 0 and p is 1.
    """
    from scipy import special

    df, n_seeds = values.shape
    share = float(compute_common_share(values))
    if not df or not share:
        return BlockTest(0.0, float(df), 1.0)
    if share >= 1 - _ROUNDING_SHARE:
        return BlockTest(math.inf, float(df), 2.0 ** (1 - n_seeds))
    statistic = (n_seeds - 1) * share / (1 - share)
    corrected_df = compute_epsilon(values) * df
    return BlockTest(
        statistic,
        corrected_df,
        float(special.fdtrc(corrected_df, corrected_df * (n_seeds - 1), statistic)),
    )


def compute_epsilon(values: Array) -> float:
    """Return Greenhouse and Geisser's epsilon.

    It is 1/df if a single contrast varies over seeds, and 1 if all vary equally.

    Args:
        values: Orthonormal contrasts that vary over seeds, (df, R).
    """
    deviations = values - values.mean(axis=-1, keepdims=True)
    deviations /= np.abs(deviations).max()  # fourth powers of large numbers overflow
    # both matrices have the same trace and the same sum of squares; compute the smaller one
    products = (
        deviations.T @ deviations
        if deviations.shape[0] > deviations.shape[1]
        else deviations @ deviations.T
    )
    return float(np.trace(products) ** 2 / (values.shape[0] * (products**2).sum()))
