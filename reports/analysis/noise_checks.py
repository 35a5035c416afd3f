"""Noise that t-tests do not account for: outlying results, noisy levels, skewed noise.

Results have the shape (S, R): S rows, one per configuration, and R columns, one per seed. The null
hypothesis of all tests is that a result is the sum of an effect of its configuration, an effect of
its seed, and normal noise with the same standard deviation everywhere.

Three of the tests look for the most extreme candidate: a result, a configuration, or a level. The
p-value of each candidate is exact. The returned p-value is the smallest, multiplied by the number
of candidates (Bonferroni's correction), which is conservative.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from reports.analysis.design import Design, VariedFactor
from reports.cells import format_level
from reports.formatting import format_number
from reports.stats import (
    ROUNDING,
    Array,
    compute_additive_residuals,
    compute_scale,
    compute_t_tail,
    is_rounding,
)
from reports.tables import shorten_factor_names

# Significance level of all tests together, which describe_uneven_noise divides equally among them.
# In simulations with normal noise, it results in warnings for 2 to 5% of studies. The rate is below
# the level, because the tests overlap and their corrections are conservative.
ALPHA = 0.052


class ExtremeResult(NamedTuple):
    """The result that is farthest from the value that all other results predict for it.

    Attributes:
        row_index: Position of its configuration.
        seed_index: Position of its seed.
        distance: The result minus the predicted value.
        p: p-value under the null hypothesis. A small p means that the result is an outlier.
    """

    row_index: int
    seed_index: int
    distance: float
    p: float


class Skewness(NamedTuple):
    """The skewness of the noise of all results, and its test.

    Attributes:
        value: Skewness of the residuals.
        p: Two-sided p-value under the null hypothesis.
    """

    value: float
    p: float


class NoisiestGroup(NamedTuple):
    """The configuration, or level of a factor, with the smallest p in a test for more noise.

    The test compares its noise with that of the rest. Noise is what remains after removing the
    effects of configurations and seeds.

    Attributes:
        position: Position of the configuration, or of the level in the factor's levels.
        p: p-value under the null hypothesis. A small p means that it has more noise than the rest.
    """

    position: int
    p: float


def find_most_extreme(values: Array) -> ExtremeResult | None:
    """Return the result that is farthest from its predicted value, and its p-value.

    The externally studentized residuals of an additive two-way table follow Student's t (Cook and
    Weisberg, "Residuals and Influence in Regression", 1982, section 2.2).

    Args:
        values: Results, (S, R).

    Returns:
        None if (S - 1)(R - 1) is below 2, or if there is no noise.
    """
    n_rows, n_seeds = values.shape
    df = (n_rows - 1) * (n_seeds - 1)
    residuals = compute_additive_residuals(values)
    if df < 2 or is_rounding(residuals, compute_scale(values)):
        return None
    row_index, seed_index = map(int, np.unravel_index(np.abs(residuals).argmax(), residuals.shape))
    # variance of a residual, as a fraction of the variance of the noise
    relative_variance = (1 - 1 / n_rows) * (1 - 1 / n_seeds)
    residual = float(residuals[row_index, seed_index])
    # by how much the sum of squares shrinks without this result
    scaled_square = residual**2 / relative_variance
    other_squares = float((residuals**2).sum()) - scaled_square
    # with two rows or two seeds, each residual occurs twice, with opposite signs
    n_candidates = n_rows * n_seeds // (2 if 2 in (n_rows, n_seeds) else 1)
    t = math.sqrt(scaled_square * (df - 1) / other_squares) if other_squares > 0 else math.inf
    p = min(1.0, 2 * n_candidates * compute_t_tail(t, df - 1))
    return ExtremeResult(row_index, seed_index, residual / relative_variance, p)


def measure_skewness(values: Array) -> Skewness | None:
    """Return the skewness of the additive residuals, and its p-value.

    The statistic is the sum of cubed residuals divided by the sum of squares to the power 1.5. Its
    variance under normal noise is known exactly (Anscombe, "Examination of residuals", 1961). Its
    distribution is taken to be normal, which is good enough: in simulations with normal noise and
    tables of 3 x 3 to 30 x 5 results, p is below 0.02 in 0 to 2.4% of the tables.

    Args:
        values: Results, (S, R).

    Returns:
        None if there is no noise, or if there are fewer than three configurations or seeds: with
        two, the residuals are always symmetric.
    """
    from scipy import special

    residuals = compute_additive_residuals(values)
    n_rows, n_seeds = values.shape
    if min(n_rows, n_seeds) < 3 or is_rounding(residuals, compute_scale(values)):
        return None
    df = (n_rows - 1) * (n_seeds - 1)
    # sum of the cubed elements of the matrix that maps values to residuals
    projection_cubes = math.prod((n - 1) * (n - 2) / n for n in (n_rows, n_seeds))
    variance = 6 * projection_cubes / (df * (df + 2) * (df + 4))
    ratio = float((residuals**3).sum() / (residuals**2).sum() ** 1.5)
    p = 2 * float(special.ndtr(-abs(ratio) / math.sqrt(variance)))
    return Skewness(ratio * math.sqrt(residuals.size), p)


def find_noisiest_row(values: Array) -> NoisiestGroup | None:
    """Return the configuration with the smallest p in a test for more noise, and this p-value.

    For each configuration, an F test compares two variances over seeds: that of its results minus
    the mean of all other configurations, and that of the residuals of all other configurations. The
    residuals are computed without it, so the two variances are independent.

    Args:
        values: Results, (S, R).

    Returns:
        None with one seed, if there is no noise, or with fewer than three configurations (the
        residuals of two differ only in sign).
    """
    n_rows, n_seeds = values.shape
    residuals = compute_additive_residuals(values)
    if n_rows < 3 or n_seeds < 2 or is_rounding(residuals, compute_scale(values)):
        return None
    squares = (residuals**2).sum(axis=1) * n_rows / (n_rows - 1)
    df = np.full(n_rows, n_seeds - 1.0)
    return _find_noisiest_group(squares, df, (residuals**2).sum() - squares, (n_rows - 2) * df)


def find_noisiest_level(values: Array, factor: VariedFactor) -> NoisiestGroup | None:
    """Return the level with the smallest p in a test for more noise, and this p-value.

    The noise of a level consists of the additive residuals of its configurations. For each level,
    an F test compares their variance with that of the other levels.

    Args:
        values: Results, (S, R).
        factor: Factor of the S configurations.

    Returns:
        None with one seed, if there is no noise, or if fewer than two levels have several
        configurations.
    """
    squares, df = np.zeros(len(factor.levels)), np.zeros(len(factor.levels))
    for code in range(len(factor.levels)):
        level_values = values[factor.codes == code]
        if len(level_values) > 1:
            squares[code] = (compute_additive_residuals(level_values) ** 2).sum()
            df[code] = (len(level_values) - 1) * (values.shape[1] - 1)
    if is_rounding(np.sqrt(squares), compute_scale(values)):
        return None
    return _find_noisiest_group(squares, df, squares.sum() - squares, df.sum() - df)


def _find_noisiest_group(
    squares: Array, df: Array, rest_squares: Array, rest_df: Array
) -> NoisiestGroup | None:
    """Return the candidate with the smallest p in an F test of its variance against the rest.

    A candidate is a configuration, or all configurations with one level.

    Args:
        squares: Sum of squares of each of K candidates, (K,).
        df: Degrees of freedom of each candidate, (K,).
        rest_squares: Sum of squares of the rest, for each candidate, (K,).
        rest_df: Degrees of freedom of the rest, for each candidate, (K,).

    Returns:
        The candidate's position among the K, and its p with Bonferroni's correction. None if fewer
        than two candidates can be tested: `df` and `rest_df` must be positive.
    """
    from scipy import special

    positions = np.flatnonzero((df > 0) & (rest_df > 0))
    if len(positions) < 2:
        return None
    squares, df, rest_squares, rest_df = (
        array[positions] for array in (squares, df, rest_squares, rest_df)
    )
    ratio = np.full(len(positions), np.inf)
    np.divide(squares * rest_df, df * rest_squares, out=ratio, where=rest_squares > 0)
    p = special.fdtrc(df, rest_df, ratio)
    index = int(p.argmin())
    return NoisiestGroup(int(positions[index]), min(1.0, len(positions) * float(p[index])))


def describe_uneven_noise(design: Design) -> Iterator[str]:
    """Yield descriptions of uneven noise in a study's results.

    A description continues a sentence that begins with the metric's name: "has skewed noise
    (skewness +2.1)". Significant tests are described in this order:

    1. an outlying result,
    2. a noisy configuration or level, unless the outlying result belongs to it, and
    3. skewed noise, if neither of the other tests is significant.

    Configurations with identical results are tested once.

    Args:
        design: Configurations under the same seeds.
    """
    distinct_rows = _find_distinct_rows(design.values)
    values = design.values[distinct_rows]
    candidates = _find_candidates(design, distinct_rows)
    # There are three tests: for an outlier, a noisy configuration and skewness. If configurations
    # share a level, a noisy level is also among the candidates, and there is a fourth test.
    alpha = ALPHA / (3 if len(candidates) < 2 else 4)
    extreme = find_most_extreme(values)
    outlier = extreme if extreme and extreme.p < alpha else None
    if outlier:
        name = _format_configuration(design, distinct_rows[outlier.row_index])
        seed = design.seeds[outlier.seed_index]
        distance = format_number(outlier.distance, signed=True)
        yield f"of {name} under seed {seed} is far from what the other results predict ({distance})"
    noisiest = min(candidates, key=lambda candidate: candidate.p, default=None)
    noisy = noisiest if noisiest and noisiest.p < alpha else None
    if noisy and not (outlier and outlier.row_index in noisy.row_indices):
        yield f"of {noisy.name} has more noise than the rest"
    skewness = measure_skewness(values)
    if skewness and skewness.p < alpha and not (outlier or noisy):
        yield f"has skewed noise (skewness {format_number(skewness.value, signed=True)})"


class _Candidate(NamedTuple):
    """A configuration, or all configurations with one level, that may be noisier than the rest.

    Attributes:
        name: Name of the configuration or level.
        row_indices: Positions of these configurations among those with distinct results.
        p: p-value under the null hypothesis, corrected over all configurations or all levels.
    """

    name: str
    row_indices: Sequence[int]
    p: float


def _find_candidates(design: Design, distinct_rows: Sequence[int]) -> list[_Candidate]:
    """Return the noisiest level of each factor and the noisiest configuration.

    Factors, or configurations, that cannot be tested are left out.

    Args:
        design: Configurations under the same seeds.
        distinct_rows: Positions of the configurations with distinct results.
    """
    values, candidates = design.values[distinct_rows], []
    factors = [factor.restrict_to(np.array(distinct_rows)) for factor in design.factors]
    noisiest_levels = [
        (factor, level) for factor in factors if (level := find_noisiest_level(values, factor))
    ]
    for factor, level in noisiest_levels:
        row_indices = np.flatnonzero(factor.codes == level.position).tolist()
        # the level's p is corrected over the levels of its factor, but not yet over factors
        p = min(1.0, level.p * len(noisiest_levels))
        name = _format_level(design, factor.key, factor.levels[level.position])
        candidates.append(_Candidate(name, row_indices, p))
    if row := find_noisiest_row(values):
        name = _format_configuration(design, distinct_rows[row.position])
        candidates.append(_Candidate(name, [row.position], row.p))
    return candidates


def _format_configuration(design: Design, row: int) -> str:
    """Return a configuration as text: "n_ctx 4, lr 0.01"."""
    assignment = design.configurations[row].assignment
    return ", ".join(_format_level(design, key, level) for key, level in assignment.items())


def _format_level(design: Design, key: str, level: Any) -> str:
    """Return a level as text: "n_ctx 4".

    In a comparison of two studies, the key "study" is not a factor, and is used as it is.
    """
    return f"{shorten_factor_names(design.study).get(key, key)} {format_level(level)}"


def _find_distinct_rows(values: Array) -> list[int]:
    """Return the positions of rows that differ, beyond rounding, from every row before them."""
    scale, distinct_rows = compute_scale(values), [0]
    for row in range(1, len(values)):
        if (np.abs(values[distinct_rows] - values[row]).max(axis=1) > ROUNDING * scale).all():
            distinct_rows.append(row)
    return distinct_rows
