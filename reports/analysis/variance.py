"""How much of the variance between settings a term explains, with seeds as the blocks; its p.

Y is (S settings, R seeds). A term's contrasts under one seed are a vector; seeds are independent,
so the products of different seeds' vectors estimate the squared length of their expectation without
bias, whatever the noise of a seed is (it need not be the same for all settings). This is what
omega squared does for equal variances (Hays, "Statistics", 1963).

Interval: the delete-one jackknife over seeds with Student's t (Arvesen, "Jackknifing U-statistics",
Annals of Mathematical Statistics 40, 1969).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reports.analysis.contrasts import Model, Term
from reports.stats import Array, Estimate, critical, scale_of, without_rounding

FEWEST_FOR_INTERVAL = 3  # seeds: with one left out, two have a product
_NOTHING = 1e-12  # share of a sum of squares that is rounding


def contrasts(term: Term, values: Array) -> Array:
    """What a term does under each seed, (..., df, R): exactly 0 where it does nothing.

    Args:
        term: of the model of the S settings.
        values: (..., S, R).
    """
    found = np.moveaxis(np.tensordot(term.basis, values, axes=(0, -2)), 0, -2)
    return without_rounding(found, scale_of(values))


def products(values: Array, model: Model) -> Array:
    """Products between seeds of differences between settings, (2 + T, R, R).

    Of all differences, of what no term explains, and of each of the model's T terms.

    Args:
        values: (S, R).
        model: of the S settings.
    """
    scale = scale_of(values)
    centred = without_rounding(values - values.mean(axis=0), scale)
    left = without_rounding(values - model.span @ (model.span.T @ values), scale)
    parts = (centred, left, *(contrasts(term, values) for term in model.terms))
    return np.array([part.T @ part for part in parts])


def share(own: Array, total: Array) -> Estimate | None:
    """The percentage of the variance between settings that a part has, and its interval.

    Args:
        own: products between seeds of the part, (R, R).
        total: of all differences between settings, (R, R).

    Returns:
        Within 0 to 100; n is the number of seeds. Without an interval below three seeds. None where
        the settings differ no more than their seeds' noise would make them.
    """
    n, least = len(total), _NOTHING * float(np.trace(total))

    def ratio(seeds: Sequence[int]) -> float | None:
        kept = np.ix_(seeds, seeds)
        whole = square(total[kept])
        return square(own[kept]) / whole if whole > least else None

    whole = ratio(range(n))
    if whole is None:
        return None
    left_out = range(n) if n >= FEWEST_FOR_INTERVAL else ()
    parts = [ratio([seed for seed in range(n) if seed != one]) for one in left_out]
    known = [part for part in parts if part is not None]
    if len(known) < n:
        return Estimate(_percent(whole), None, None, n)
    half = critical(n - 1) * math.sqrt((n - 1) * float(np.var(known)))
    return Estimate(_percent(whole), _percent(whole - half), _percent(whole + half), n)


def noise(total: Array) -> float | None:
    """The percentage of the variance of settings' means that comes from their seeds.

    Args:
        total: products between seeds of the differences between settings, (R, R).

    Returns:
        None of one seed, or where the means do not differ.
    """
    n = len(total)
    means = float(total.sum()) / n**2
    return None if n < 2 or means <= 0 else _percent(1 - square(total) / means)


def square(products: Array) -> float:
    """The squared length of the expected vector; of one seed, that of its own with its noise.

    Args:
        products: between seeds, (R, R).
    """
    n = len(products)
    if n == 1:
        return float(products[0, 0])
    return float(products.sum() - np.trace(products)) / (n * (n - 1))


def _percent(part: float) -> float:
    return 100 * min(max(part, 0.0), 1.0)


def over_seeds(found: Array) -> Array:
    """How much of a term's squares is common to all seeds, (...,), 0 to 1.

    With q this part, F = (R - 1) q / (1 - q) has df and df (R - 1) degrees of freedom: the block
    ANOVA's, with the term's own interaction with seeds as its error.

    Args:
        found: contrasts, (..., df, R).
    """
    squares = (found**2).sum(axis=(-2, -1))
    common = found.shape[-1] * (found.mean(axis=-1) ** 2).sum(axis=-1)
    return np.asarray(np.divide(common, squares, out=np.zeros_like(common), where=squares > 0))


class BlockTest(NamedTuple):
    """A term's F over blocks of seeds, its first degrees of freedom (times epsilon), and its p."""

    statistic: float
    freedom: float
    p: float


def block_f(found: Array) -> BlockTest:
    """Return the block ANOVA's F of a term, with Greenhouse and Geisser's degrees of freedom.

    F assumes that all contrasts of the term vary alike from seed to seed. One noisy configuration,
    or levels that are nearly tied, break this, and F is then too large too often. Multiplying both
    degrees of freedom by epsilon allows for it (Greenhouse and Geisser, "On methods in the analysis
    of profile data", Psychometrika 24, 1959). With few seeds epsilon is estimated too low, so that
    few of the effects of noise are called, and some weak effects are missed.

    If the contrasts do not vary, F is infinite and p is the exact sign test's.

    Args:
        found: contrasts, (df, R), R > 1.
    """
    from scipy import special

    freedom, n = found.shape
    part = float(over_seeds(found))
    if not freedom or not part:
        return BlockTest(0.0, float(freedom), 1.0)
    if part >= 1 - _NOTHING:
        return BlockTest(math.inf, float(freedom), 2.0 ** (1 - n))
    value = (n - 1) * part / (1 - part)
    freedom_left = epsilon(found) * freedom
    return BlockTest(
        value, freedom_left, float(special.fdtrc(freedom_left, freedom_left * (n - 1), value))
    )


def epsilon(found: Array) -> float:
    """Return Greenhouse and Geisser's epsilon: 1 if all contrasts vary alike, 1/df if one does.

    Args:
        found: orthonormal contrasts that vary over seeds, (df, R).
    """
    apart = found - found.mean(axis=-1, keepdims=True)
    # the products between seeds have the trace and the squares of the covariance
    between = apart.T @ apart if apart.shape[0] > apart.shape[1] else apart @ apart.T
    return float(np.trace(between) ** 2 / (found.shape[0] * (between**2).sum()))
