"""Noise that t-tests do not account for: outlying results, noisy levels, skewed noise.

A table of results has S rows, the configurations, and R columns, the seeds. The null hypothesis of
all tests is that a result is the sum of an effect of its configuration, an effect of its seed, and
normal noise with the same standard deviation everywhere. The tests for an outlying result, a noisy
configuration and a noisy level are exact, with Bonferroni's correction for the number of
candidates.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from reports.analysis.design import Design, VariedFactor
from reports.cells import level_text
from reports.formatting import number_text
from reports.stats import ROUNDING, Array, is_rounding, scale_of, t_tail

# Total significance level of all tests, which describe_uneven_noise divides equally among them.
# Measured: 2 to 5% of studies with normal noise get a warning.
ALPHA = 0.052


class Outlier(NamedTuple):
    """The result that is farthest from the value that all other results predict for it.

    Attributes:
        row: Position of its configuration.
        seed: Position of its seed.
        distance: The result minus the predicted value.
        p: p of the hypothesis that no result is an outlier.
    """

    row: int
    seed: int
    distance: float
    p: float


class Skewed(NamedTuple):
    """The skewness of all noise in a table, and p of the hypothesis that the noise is normal."""

    skewness: float
    p: float


class Noisy(NamedTuple):
    """The row, or the level of a factor, that varies most over seeds.

    Attributes:
        position: Position of the row, or of the level in the factor's levels.
        p: p of the hypothesis that no row (no level) varies more than the others.
    """

    position: int
    p: float


def find_outlier(values: Array) -> Outlier | None:
    """Return the result that is farthest from its predicted value, with p.

    The externally studentized residuals of an additive two-way table follow Student's t (Cook and
    Weisberg, "Residuals and Influence in Regression", 1982, section 2.2).

    Args:
        values: Results, (S, R).

    Returns:
        None if (S - 1)(R - 1) is below 2, or if there is no noise.
    """
    rows, seeds = values.shape
    df = (rows - 1) * (seeds - 1)
    residuals = additive_residuals(values)
    if df < 2 or is_rounding(residuals, scale_of(values)):
        return None
    row, seed = map(int, np.unravel_index(np.abs(residuals).argmax(), residuals.shape))
    # variance of a residual, as a fraction of the variance of the noise
    relative_variance = (1 - 1 / rows) * (1 - 1 / seeds)
    largest_square = float(residuals[row, seed]) ** 2 / relative_variance
    other_squares = float((residuals**2).sum()) - largest_square
    # with two rows or two seeds, each residual occurs twice, with opposite signs
    n_candidates = rows * seeds // (2 if 2 in (rows, seeds) else 1)
    t = math.sqrt(largest_square * (df - 1) / other_squares) if other_squares > 0 else math.inf
    p = min(1.0, 2 * n_candidates * t_tail(t, df - 1))
    return Outlier(row, seed, float(residuals[row, seed]) / relative_variance, p)


def measure_skewness(values: Array) -> Skewed | None:
    """Return the skewness of the additive residuals, with its two-sided p.

    The statistic is the sum of cubed residuals divided by the sum of squares to the power 1.5. Its
    variance under normal noise is known exactly (Anscombe, "Examination of residuals", 1961). That
    the statistic is normal is an approximation: in tables of 3 x 3 to 30 x 5 with normal noise, p
    is below 2% in 0 to 2.4% of cases.

    Args:
        values: Results, (S, R).

    Returns:
        None if there is no noise, or with fewer than three rows or columns, whose residuals are
        always symmetric.
    """
    from scipy import special

    residuals = additive_residuals(values)
    rows, seeds = values.shape
    if min(rows, seeds) < 3 or is_rounding(residuals, scale_of(values)):
        return None
    df = (rows - 1) * (seeds - 1)
    cubes = math.prod((n - 1) * (n - 2) / n for n in (rows, seeds))
    variance = 6 * cubes / (df * (df + 2) * (df + 4))
    ratio = float((residuals**3).sum() / (residuals**2).sum() ** 1.5)
    p = 2 * float(special.ndtr(-abs(ratio) / math.sqrt(variance)))
    return Skewed(ratio * math.sqrt(residuals.size), p)


def find_noisy_row(values: Array) -> Noisy | None:
    """Return the row that varies most over seeds relative to the other rows, with its p.

    The differences between a row and the mean of the other rows are independent of the residuals of
    the other rows among themselves. The ratio of the two variances thus follows an F distribution.

    Args:
        values: Results, (S, R).

    Returns:
        None with one seed, if there is no noise, or with fewer than three rows: the residuals of
        two rows differ only in sign.
    """
    rows, seeds = values.shape
    residuals = additive_residuals(values)
    if rows < 3 or seeds < 2 or is_rounding(residuals, scale_of(values)):
        return None
    squares = (residuals**2).sum(axis=1) * rows / (rows - 1)
    df = np.full(rows, seeds - 1.0)
    return _find_noisiest(squares, df, (residuals**2).sum() - squares, (rows - 2) * df)


def find_noisy_level(values: Array, factor: VariedFactor) -> Noisy | None:
    """Return the level whose configurations have the largest residuals among themselves, with p.

    Args:
        values: Results, (S, R).
        factor: Factor of the S configurations.

    Returns:
        None if there is no noise, or if fewer than two levels have several configurations.
    """
    squares, df = np.zeros(len(factor.levels)), np.zeros(len(factor.levels))
    for code in range(len(factor.levels)):
        level_values = values[factor.codes == code]
        if len(level_values) > 1:
            squares[code] = (additive_residuals(level_values) ** 2).sum()
            df[code] = (len(level_values) - 1) * (values.shape[1] - 1)
    if is_rounding(np.sqrt(squares), scale_of(values)):
        return None
    return _find_noisiest(squares, df, squares.sum() - squares, df.sum() - df)


def _find_noisiest(squares: Array, df: Array, rest_squares: Array, rest_df: Array) -> Noisy | None:
    """Return the part of a table with the most significantly larger variance than the rest.

    A part is a row, or the rows of one level.

    Args:
        squares: Sum of squares of each of K parts, (K,).
        df: Degrees of freedom of each part, (K,).
        rest_squares: Sum of squares of all other parts, for each part, (K,).
        rest_df: Degrees of freedom of all other parts, for each part, (K,).

    Returns:
        The part's position among the K parts, and p with Bonferroni's correction. None if fewer
        than two parts have degrees of freedom.
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
    return Noisy(int(positions[index]), min(1.0, len(positions) * float(p[index])))


def describe_uneven_noise(design: Design) -> Iterator[str]:
    """Yield descriptions of uneven noise in a study's results.

    A description is a predicate for use after the metric's name: "has skewed noise (skewness
    +2.1)". A noisy configuration or level that contains the outlying result is not described in
    addition to it, and skewness is described only if nothing else is.

    Args:
        design: Configurations under the same seeds.
    """
    distinct_rows = _find_distinct_rows(design.values)
    parts = _find_noisy_parts(design, distinct_rows)
    # Three tests are for an outlying result, skewed noise and a noisy configuration. The fourth is
    # for a noisy level; it requires configurations that share a level.
    alpha = ALPHA / (3 if len(parts) < 2 else 4)
    outlier = find_outlier(design.values[distinct_rows])
    has_outlier = outlier is not None and outlier.p < alpha
    if outlier is not None and has_outlier:
        name = _configuration_text(design, distinct_rows[outlier.row])
        seed = design.seeds[outlier.seed]
        distance = number_text(outlier.distance, signed=True)
        yield f"of {name} under seed {seed} is far from the rest ({distance})"
    noisiest = min(parts, key=lambda part: part.p, default=None)
    has_noisy_part = noisiest is not None and noisiest.p < alpha
    if noisiest and has_noisy_part:
        is_explained = outlier is not None and has_outlier and outlier.row in noisiest.rows
        if not is_explained:
            yield f"of {noisiest.name} varies more over seeds than the rest"
    skew = measure_skewness(design.values[distinct_rows])
    if skew and skew.p < alpha and not (has_outlier or has_noisy_part):
        yield f"has skewed noise (skewness {number_text(skew.skewness, signed=True)})"


class _Part(NamedTuple):
    """A configuration, or the configurations with one level.

    Attributes:
        name: Name of the configuration or level.
        rows: Positions among the rows with distinct results.
        p: p of the hypothesis that it is no noisier than the rest, corrected for the number of
            candidates of its kind.
    """

    name: str
    rows: Sequence[int]
    p: float


def _find_noisy_parts(design: Design, distinct_rows: Sequence[int]) -> list[_Part]:
    """Return the noisiest level of each factor and the noisiest configuration, where testable.

    Args:
        design: Configurations under the same seeds.
        distinct_rows: Positions of the configurations with distinct results.
    """
    values, parts = design.values[distinct_rows], []
    factors = [factor.restrict_to(np.array(distinct_rows)) for factor in design.factors]
    noisy_levels = [
        (factor, noisy) for factor in factors if (noisy := find_noisy_level(values, factor))
    ]
    for factor, noisy in noisy_levels:
        rows = np.flatnonzero(factor.codes == noisy.position).tolist()
        p = min(1.0, noisy.p * len(noisy_levels))
        parts.append(_Part(_level_text(factor.key, factor.levels[noisy.position]), rows, p))
    if noisy_row := find_noisy_row(values):
        name = _configuration_text(design, distinct_rows[noisy_row.position])
        parts.append(_Part(name, [noisy_row.position], noisy_row.p))
    return parts


def _configuration_text(design: Design, row: int) -> str:
    """Return a configuration as text: "n_ctx 4, lr 0.01"."""
    assignment = design.configurations[row].assignment
    return ", ".join(_level_text(key, level) for key, level in assignment.items())


def _level_text(key: str, level: Any) -> str:
    """Return a level as text: "n_ctx 4"."""
    return f"{key.split('.')[-1]} {level_text(level)}"


def additive_residuals(values: Array) -> Array:
    """Return the residuals of a table after its row means and column means, (S, R)."""
    if not values.size:
        return values
    row_means = values.mean(axis=1, keepdims=True)
    return np.asarray(values - row_means - values.mean(axis=0) + values.mean())


def _find_distinct_rows(values: Array) -> list[int]:
    """Return the positions of rows that differ, beyond rounding, from every earlier row."""
    scale, distinct_rows = scale_of(values), [0]
    for row in range(1, len(values)):
        if (np.abs(values[distinct_rows] - values[row]).max(axis=1) > ROUNDING * scale).all():
            distinct_rows.append(row)
    return distinct_rows
