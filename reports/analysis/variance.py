"""Share of the variance between configurations that a term explains, and its p.

Seeds are the blocks. Y is (S configurations, R seeds). A term's contrasts under one seed are a
vector. Seeds are independent, so that the products of different seeds' vectors estimate the squared
length of their expectation without bias. The noise of a seed need not be the same for all
configurations. For equal variances this is omega squared (Hays, "Statistics", 1963).

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


def contrasts(term: Term, values: Array) -> Array:
    """Return a term's contrasts under each seed, (..., df, R), with rounding errors set to 0.

    Args:
        term: Term of the model of the S configurations.
        values: (..., S, R).
    """
    projected = np.moveaxis(np.tensordot(term.basis, values, axes=(0, -2)), 0, -2)
    return without_rounding(projected, scale_of(values))


def products(values: Array, model: Model) -> Array:
    """Return the products between seeds of differences between configurations, (2 + T, R, R).

    They are those of all differences, of the part that no term explains, and of each of the T
    terms.

    Args:
        values: (S, R).
        model: Model of the S configurations.
    """
    scale = scale_of(values)
    centered = without_rounding(values - values.mean(axis=0), scale)
    residual = without_rounding(values - model.span @ (model.span.T @ values), scale)
    parts = (centered, residual, *(contrasts(term, values) for term in model.terms))
    return np.array([part.T @ part for part in parts])


def share_of_variance(part: Array, total: Array) -> Estimate | None:
    """Return the share of the variance between configurations that a part has, with its interval.

    Args:
        part: Products between seeds of the part, (R, R).
        total: Products between seeds of all differences between configurations, (R, R).

    Returns:
        A percentage within 0 to 100, where n is the number of seeds. There is no interval with
        fewer than three seeds. None if the configurations differ no more than by the noise of their
        seeds.
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
    """Return the percentage of the variance of configurations' means that is due to their seeds.

    Args:
        total: Products between seeds of the differences between configurations, (R, R).

    Returns:
        None with one seed, or if the means do not differ.
    """
    n = len(total)
    means = float(total.sum()) / n**2
    return None if n < 2 or means <= 0 else _percent(1 - expected_square(total) / means)


def expected_square(products: Array) -> float:
    """Return the squared length of the expected vector; with one seed, that of its noisy vector.

    Args:
        products: Products between seeds, (R, R).
    """
    n = len(products)
    if n == 1:
        return float(products[0, 0])
    return float(products.sum() - np.trace(products)) / (n * (n - 1))


def _percent(part: float) -> float:
    return 100 * min(max(part, 0.0), 1.0)


def common_share(values: Array) -> Array:
    """Return the share of a term's squares that is common to all seeds, (...,), within 0 to 1.

    With q this share, F = (R - 1) q / (1 - q) has df and df (R - 1) degrees of freedom. This is the
    block ANOVA's F, whose error is the term's own interaction with seeds.

    Args:
        values: Contrasts, (..., df, R).
    """
    squares = (values**2).sum(axis=(-2, -1))
    common_squares = values.shape[-1] * (values.mean(axis=-1) ** 2).sum(axis=-1)
    return np.asarray(
        np.divide(common_squares, squares, out=np.zeros_like(common_squares), where=squares > 0)
    )


class BlockTest(NamedTuple):
    """F of a term over blocks of seeds, its first degrees of freedom (times epsilon), and its p."""

    statistic: float
    freedom: float
    p: float


def block_f(values: Array) -> BlockTest:
    """Return the block ANOVA's F of a term, with Greenhouse and Geisser's degrees of freedom.

    F assumes that all contrasts of the term vary equally from seed to seed. One noisy
    configuration, or levels that are nearly tied, violate this, and F is then too often too large.
    Multiplying both degrees of freedom by epsilon corrects for it (Greenhouse and Geisser, "On
    methods in the analysis of profile data", Psychometrika 24, 1959). With few seeds epsilon is
    underestimated, so that few effects of noise are flagged as significant, and some weak effects
    are missed.

    If the contrasts do not vary, F is infinite and p is that of the exact sign test.

    Args:
        values: Contrasts, (df, R), R > 1.
    """
    from scipy import special

    freedom, n = values.shape
    share = float(common_share(values))
    if not freedom or not share:
        return BlockTest(0.0, float(freedom), 1.0)
    if share >= 1 - _NOTHING:
        return BlockTest(math.inf, float(freedom), 2.0 ** (1 - n))
    statistic = (n - 1) * share / (1 - share)
    corrected_freedom = epsilon(values) * freedom
    return BlockTest(
        statistic,
        corrected_freedom,
        float(special.fdtrc(corrected_freedom, corrected_freedom * (n - 1), statistic)),
    )


def epsilon(values: Array) -> float:
    """Return Greenhouse and Geisser's epsilon: 1 if all contrasts vary equally, 1/df if one varies.

    Args:
        values: Orthonormal contrasts that vary over seeds, (df, R).
    """
    deviations = values - values.mean(axis=-1, keepdims=True)
    # the products between seeds have the same trace and sum of squares as the covariance
    products = (
        deviations.T @ deviations
        if deviations.shape[0] > deviations.shape[1]
        else deviations @ deviations.T
    )
    return float(np.trace(products) ** 2 / (values.shape[0] * (products**2).sum()))
