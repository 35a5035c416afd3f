"""p-values of no effect by permutation, for factors of a grid and of a sampled study."""

import math
from collections.abc import Sequence

import numpy as np

from reports.analysis.contrasts import Model, Term
from reports.analysis.design import Varied
from reports.analysis.variance import contrasts, over_seeds, within_blocks
from reports.stats import ROUNDING, Array, scale_of, without_rounding

DRAWS = 999  # the least p is 0.001: below 0.05 after Holm over 50 factors
_EQUAL = 1 - ROUNDING  # a statistic this close to another is the same, apart from rounding


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
    blocks = _blocks(factors, term)
    if all(len(block) == 1 for block in blocks):
        return None
    found = float(over_seeds(contrasts(term, values)))
    as_large = sum(
        int((over_seeds(contrasts(term, made)) >= _EQUAL * found).sum())
        for made in within_blocks(values, blocks, DRAWS, rng)
    )
    return (1 + as_large) / (1 + DRAWS)


def least_grid_p(factors: Sequence[Varied], term: Term, seeds: int) -> float:
    """The smallest p that grid_p can come to with any results: few seeds have few orders.

    Names of levels are no matter: as many orders as levels have have one statistic.

    Args:
        factors, term: see grid_p.
        seeds: how many.
    """
    (place,) = term.factors
    levels = len(factors[place].levels)
    orders = math.prod(math.factorial(len(block)) for block in _blocks(factors, term) * seeds)
    return max(1 / (1 + DRAWS), min(1.0, math.factorial(levels) / orders))


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
