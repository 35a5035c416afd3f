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

import numpy as np

from reports.analysis.contrasts import Model, Term
from reports.analysis.layout import Varied
from reports.stats import ROUNDING, Array, Estimate, critical, scale_of, without_rounding

FEWEST_FOR_INTERVAL = 3  # seeds: with one left out, two have a product
DRAWS = 999  # the least p is 0.001: below 0.05 after Holm over 50 factors
_EQUAL = 1 - ROUNDING  # a statistic this close to another is the same, apart from rounding
_NOTHING = 1e-12  # share of a sum of squares that is rounding


def contrasts(term: Term, values: Array) -> Array:
    """What a term does under each seed, (..., df, R): exactly 0 where it does nothing.

    Args:
        term: of the model of the S settings.
        values: (..., S, R).
    """
    # one product of all the shuffles, for each of which the basis would be read again
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
        own: products between seeds of the part, (R, R), without what leaks into it.
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


def block_f(found: Array) -> tuple[float, float]:
    """The block ANOVA's F of a term and its p.

    Where seeds do not differ F is infinite, and p what the exact sign test gives; without a degree
    of freedom there is no effect.

    Args:
        found: contrasts, (df, R), R > 1.
    """
    from scipy import special

    freedom, n = found.shape
    if not freedom:
        return 0.0, 1.0
    part = float(over_seeds(found))
    if part >= 1 - _NOTHING:
        return math.inf, 2.0 ** (1 - n)
    value = (n - 1) * part / (1 - part)
    return value, float(special.fdtrc(freedom, freedom * (n - 1), value))


def grid_p(
    values: Array, factors: Sequence[Varied], term: Term, rng: np.random.Generator
) -> float | None:
    """p of a factor of a grid: its levels shuffled within a seed and a setting of the others.

    If the factor does nothing, the settings that differ in it alone can be exchanged under each
    seed, and p is exact. The statistic is the block ANOVA's F with the factor's own interaction
    with seeds as its error, so that a factor which goes up and down with the seed is not called.

    Args:
        values: (S, R), R > 1.
        factors: all factors of the grid.
        term: of one of them.
        rng: shuffles.

    Returns:
        None where no two settings differ in the factor alone.
    """
    by_size: dict[int, list[list[int]]] = {}
    for block in _blocks(factors, term):
        by_size.setdefault(len(block), []).append(block)
    if set(by_size) == {1}:
        return None
    found = float(over_seeds(contrasts(term, values)))
    as_large, batch = 0, max(1, 2_000_000 // values.size)
    for first in range(0, DRAWS, batch):
        count = min(batch, DRAWS - first)
        made = np.repeat(values[None], count, axis=0)  # (batch, S, R)
        for size, same in by_size.items():
            if size > 1:
                # (batch, blocks, R, size), shuffled along the last
                held = np.repeat(values[np.asarray(same)].transpose(0, 2, 1)[None], count, axis=0)
                made[:, np.asarray(same)] = rng.permuted(held, axis=-1).transpose(0, 1, 3, 2)
        as_large += int((over_seeds(contrasts(term, made)) >= _EQUAL * found).sum())
    return (1 + as_large) / (1 + DRAWS)


def _blocks(factors: Sequence[Varied], term: Term) -> list[list[int]]:
    """The settings that differ in a term's factor alone."""
    (place,) = term.factors
    rest = [factor.codes.tolist() for i, factor in enumerate(factors) if i != place]
    blocks: dict[tuple[int, ...], list[int]] = {}
    for setting in range(len(factors[place].codes)):
        blocks.setdefault(tuple(codes[setting] for codes in rest), []).append(setting)
    return list(blocks.values())


def range_p(means: Array, model: Model, term: Term, rng: np.random.Generator) -> float | None:
    """p of a factor of a sampled study: what the other factors leave over is permuted.

    Source: Freedman and Lane, "A nonstochastic interpretation of reported significance levels",
    Journal of Business and Economic Statistics 1, 1983. The statistic is the factor's F over what
    all factors leave over. The settings are the units: p is about other settings under these seeds.

    Args:
        means: (S,) over seeds.
        model: of the S settings.
        term: of the model.
        rng: permutes.

    Returns:
        None where nothing is left to compare with.
    """
    centred = means - means.mean()
    reduced = centred - model.span @ (model.span.T @ centred)
    reduced = reduced + term.basis @ (term.basis.T @ centred)
    reduced = without_rounding(reduced, scale_of(means))
    if not model.left or not reduced.any():
        return None
    orders = np.vstack([reduced, rng.permuted(np.tile(reduced, (DRAWS, 1)), axis=1)])
    own = ((orders @ term.basis) ** 2).sum(axis=1)
    left = (orders**2).sum(axis=1) - ((orders @ model.span) ** 2).sum(axis=1)
    # in an order that the other factors explain whole, both are rounding
    statistics = own / np.maximum(own + left, ROUNDING * (reduced**2).sum())
    return float((statistics >= _EQUAL * statistics[0]).sum() / len(statistics))
