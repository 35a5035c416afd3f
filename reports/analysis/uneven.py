"""Noise that t-tests do not account for: outlying results, noisy levels, skewed noise.

The tests model a result as the sum of an effect of its configuration, an effect of its seed, and
normal noise whose standard deviation is the same everywhere. The tests for an outlying result, a
noisy configuration and a noisy level are exact, with Bonferroni's correction for the number of
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

# Significance level of all tests together. Because they overlap, 2 to 5% of studies with normal
# noise get a warning.
ALPHA = 0.052


class Outlier(NamedTuple):
    """The result that is farthest from the value that the rest predicts.

    Attributes:
        row: Position of its configuration.
        seed: Position of its seed.
        distance: Difference to the predicted value.
        p: p of the hypothesis that no result is an outlier.
    """

    row: int
    seed: int
    distance: float
    p: float


class Skewed(NamedTuple):
    """The skewness of all noise in a table, and its p under normal noise."""

    skewness: float
    p: float


class Noisy(NamedTuple):
    """The row, or the group of rows, that varies most over seeds.

    Attributes:
        position: Position of the row or the group.
        p: p of the hypothesis that none varies more than the rest.
    """

    position: int
    p: float


def find_outlier(values: Array) -> Outlier | None:
    """Return the result that is farthest from the rest, with its p.

    The externally studentized residuals of an additive two-way table follow Student's t (Cook and
    Weisberg, "Residuals and Influence in Regression", 1982, section 2.2).

    Args:
        values: (S, R).

    Returns:
        None if too few results remain to compare with, or if there is no noise.
    """
    rows, seeds = values.shape
    df = (rows - 1) * (seeds - 1)
    residuals = additive_residuals(values)
    if df < 2 or is_rounding(residuals, scale_of(values)):
        return None
    row, seed = map(int, np.unravel_index(np.abs(residuals).argmax(), residuals.shape))
    # variance of a residual relative to the variance of the noise
    variance_share = (1 - 1 / rows) * (1 - 1 / seeds)
    largest_square = float(residuals[row, seed]) ** 2 / variance_share
    other_squares = float((residuals**2).sum()) - largest_square
    # with two rows or two seeds, residuals come in pairs of equal size
    cells = rows * seeds // (2 if 2 in (rows, seeds) else 1)
    t = math.sqrt(largest_square * (df - 1) / other_squares) if other_squares > 0 else math.inf
    p = min(1.0, 2 * cells * t_tail(t, df - 1))
    return Outlier(row, seed, float(residuals[row, seed]) / variance_share, p)


def skewed_noise(values: Array) -> Skewed | None:
    """Return the skewness of the additive residuals, with its two-sided p.

    The statistic is the sum of cubed residuals divided by the sum of squares to the power 1.5. Its
    variance under normal noise is known exactly (Anscombe, "Examination of residuals", 1961). p
    treats the statistic as normal, which is an approximation: in tables of 3 x 3 to 30 x 5 with
    normal noise, p is below 2% in 0 to 2.4% of cases.

    Args:
        values: (S, R).

    Returns:
        None without noise. None with fewer than three rows or columns: their residuals are
        symmetric.
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


def noisy_row(values: Array) -> Noisy | None:
    """Return the row that varies most over seeds relative to the others, with its p.

    A row's differences to the mean of the others are independent of the others' residuals.
    Therefore the ratio of their variances follows an F distribution.

    Args:
        values: (S, R).

    Returns:
        None with one seed or without noise. None with fewer than three rows: the residuals of two
        rows differ only in sign.
    """
    rows, seeds = values.shape
    residuals = additive_residuals(values)
    if rows < 3 or seeds < 2 or is_rounding(residuals, scale_of(values)):
        return None
    squares = (residuals**2).sum(axis=1) * rows / (rows - 1)
    df = np.full(rows, seeds - 1.0)
    return _find_noisiest(squares, df, (residuals**2).sum() - squares, (rows - 2) * df)


def noisy_level(values: Array, factor: VariedFactor) -> Noisy | None:
    """Return the level whose configurations vary most over seeds among themselves, with its p.

    Args:
        values: (S, R).
        factor: Factor of the S configurations.

    Returns:
        None without noise, or if fewer than two levels have several configurations.
    """
    squares, df = np.zeros(len(factor.levels)), np.zeros(len(factor.levels))
    for code in range(len(factor.levels)):
        part = values[factor.codes == code]
        if len(part) > 1:
            squares[code] = (additive_residuals(part) ** 2).sum()
            df[code] = (len(part) - 1) * (values.shape[1] - 1)
    if is_rounding(np.sqrt(squares), scale_of(values)):
        return None
    return _find_noisiest(squares, df, squares.sum() - squares, df.sum() - df)


def _find_noisiest(squares: Array, df: Array, rest_squares: Array, rest_df: Array) -> Noisy | None:
    """Return the part whose variance exceeds the rest's most significantly, with its p.

    Args:
        squares: Sum of squares of each part, (K,).
        df: Degrees of freedom of each part, (K,).
        rest_squares: Sum of squares of all parts except this one, (K,).
        rest_df: Degrees of freedom of all parts except this one, (K,).

    Returns:
        None if fewer than two parts have degrees of freedom.
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


def uneven_noise(design: Design) -> Iterator[str]:
    """Yield descriptions of uneven noise among a study's configurations.

    Each is a predicate that follows the metric's name: "has skewed noise (skewness +2.1)".

    Args:
        design: Configurations under the same seeds.
    """
    distinct_rows = _distinct_rows(design.values)
    parts = _noisy_parts(design, distinct_rows)
    # the tests: an outlying result, skewed noise, a noisy configuration, and if several
    # configurations share a level, a noisy level
    alpha = ALPHA / (3 if len(parts) < 2 else 4)
    outlier = find_outlier(design.values[distinct_rows])
    is_far = outlier is not None and outlier.p < alpha
    if outlier is not None and is_far:
        name = _configuration_text(design, distinct_rows[outlier.row])
        seed = design.seeds[outlier.seed]
        distance = number_text(outlier.distance, signed=True)
        yield f"of {name} under seed {seed} is far from the rest ({distance})"
    noisiest = min(parts, key=lambda part: part.p, default=None)
    is_noisy = noisiest is not None and noisiest.p < alpha
    if noisiest and is_noisy and not (outlier and is_far and outlier.row in noisiest.rows):
        yield f"of {noisiest.name} varies more over seeds than the rest"
    skew = skewed_noise(design.values[distinct_rows])
    if skew and skew.p < alpha and not (is_far or is_noisy):
        yield f"has skewed noise (skewness {number_text(skew.skewness, signed=True)})"


class _Part(NamedTuple):
    """A configuration or a level.

    Attributes:
        name: Its name.
        rows: Positions of its rows.
        p: p of the hypothesis that it is no noisier than the others.
    """

    name: str
    rows: Sequence[int]
    p: float


def _noisy_parts(design: Design, distinct_rows: Sequence[int]) -> list[_Part]:
    """Return the noisiest level of each factor, and the noisiest configuration, if testable.

    Args:
        design: Configurations under the same seeds.
        distinct_rows: Positions of the configurations with distinct results.
    """
    values, parts = design.values[distinct_rows], []
    factors = [factor.restrict_to(np.array(distinct_rows)) for factor in design.factors]
    levels = [(factor, noisiest) for factor in factors if (noisiest := noisy_level(values, factor))]
    for factor, noisiest in levels:
        rows = np.flatnonzero(factor.codes == noisiest.position).tolist()
        p = min(1.0, noisiest.p * len(levels))
        parts.append(_Part(_level_name(factor.key, factor.levels[noisiest.position]), rows, p))
    if row_noise := noisy_row(values):
        parts.append(
            _Part(
                _configuration_text(design, distinct_rows[row_noise.position]),
                [row_noise.position],
                row_noise.p,
            )
        )
    return parts


def _configuration_text(design: Design, row: int) -> str:
    """Return a configuration as text: "n_ctx 4, lr 0.01"."""
    assignment = design.configurations[row].assignment
    return ", ".join(_level_name(key, level) for key, level in assignment.items())


def _level_name(key: str, level: Any) -> str:
    """Return a level as text: "n_ctx 4"."""
    return f"{key.split('.')[-1]} {level_text(level)}"


def additive_residuals(values: Array) -> Array:
    """Return the residuals of a table after its row means and column means, (S, R)."""
    if not values.size:
        return values
    rows = values.mean(axis=1, keepdims=True)
    return np.asarray(values - rows - values.mean(axis=0) + values.mean())


def _distinct_rows(values: Array) -> list[int]:
    """Return the positions of rows that differ from every earlier row."""
    scale, distinct_rows = scale_of(values), [0]
    for row in range(1, len(values)):
        if (np.abs(values[distinct_rows] - values[row]).max(axis=1) > ROUNDING * scale).all():
            distinct_rows.append(row)
    return distinct_rows
