"""Noise that t-tests do not account for: outlying results, noisy levels, skewed noise.

Results have the shape (S, R): S rows, one per configuration, and R columns, one per seed. The null
hypothesis of all tests is that a result is the sum of an effect of its configuration, an effect of
its seed, and normal noise with the same standard deviation everywhere.

The tests for an outlying result, a noisy configuration and a noisy level pick the most extreme
candidate. The test of each candidate is exact; Bonferroni's correction for the number of candidates
makes the p-value of the most extreme one conservative.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from reports.analysis.design import Design, VariedFactor
from reports.cells import level_text
from reports.formatting import number_text
from reports.stats import ROUNDING, Array, additive_residuals, is_rounding, scale_of, t_tail

# Significance level of all tests together, which describe_uneven_noise divides equally among them.
# It is slightly above 5%, because several tests may react to the same results: in simulations with
# normal noise, 2 to 5% of studies get a warning.
ALPHA = 0.052


class ExtremeResult(NamedTuple):
    """The result that is farthest from the value that all other results predict for it.

    Attributes:
        row: Position of its configuration.
        seed: Position of its seed.
        distance: The result minus the predicted value.
        p: p-value under the null hypothesis. A small p means that the result is an outlier.
    """

    row: int
    seed: int
    distance: float
    p: float


class Skewness(NamedTuple):
    """The skewness of the noise of all results.

    Attributes:
        skewness: The skewness.
        p: Two-sided p-value under the null hypothesis.
    """

    skewness: float
    p: float


class Noisiest(NamedTuple):
    """The configuration, or the level of a factor, that varies most over seeds.

    Attributes:
        position: Position of the configuration, or of the level in the factor's levels.
        p: p-value under the null hypothesis. A small p means that it varies more than the rest.
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
    return ExtremeResult(row, seed, float(residuals[row, seed]) / relative_variance, p)


def measure_skewness(values: Array) -> Skewness | None:
    """Return the skewness of the additive residuals, and its p-value.

    The statistic is the sum of cubed residuals divided by the sum of squares to the power 1.5. Its
    variance under normal noise is known exactly (Anscombe, "Examination of residuals", 1961). Its
    distribution is only approximately normal: in simulations with normal noise, from (3, 3) to
    (30, 5), p is below 2% in 0 to 2.4% of cases.

    Args:
        values: Results, (S, R).

    Returns:
        None if there is no noise, or with fewer than three configurations or seeds. The residuals
        are then symmetric whatever the noise.
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
    return Skewness(ratio * math.sqrt(residuals.size), p)


def find_noisiest_row(values: Array) -> Noisiest | None:
    """Return the configuration that varies most over seeds, and its p-value.

    The F test of a configuration compares two independent variances: that of its differences from
    the mean of the other configurations, and that of the other configurations' residuals among
    themselves.

    Args:
        values: Results, (S, R).

    Returns:
        None with one seed, if there is no noise, or with fewer than three configurations (the
        residuals of two differ only in sign).
    """
    rows, seeds = values.shape
    residuals = additive_residuals(values)
    if rows < 3 or seeds < 2 or is_rounding(residuals, scale_of(values)):
        return None
    squares = (residuals**2).sum(axis=1) * rows / (rows - 1)
    df = np.full(rows, seeds - 1.0)
    return _find_noisiest(squares, df, (residuals**2).sum() - squares, (rows - 2) * df)


def find_noisiest_level(values: Array, factor: VariedFactor) -> Noisiest | None:
    """Return the level with the largest noise variance among its configurations, and its p-value.

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


def _find_noisiest(
    squares: Array, df: Array, rest_squares: Array, rest_df: Array
) -> Noisiest | None:
    """Return the candidate with the smallest p in an F test of its variance against the rest.

    A candidate is a configuration, or all configurations with one level.

    Args:
        squares: Sum of squares of each of K candidates, (K,).
        df: Degrees of freedom of each candidate, (K,).
        rest_squares: Sum of squares of the rest, for each candidate, (K,).
        rest_df: Degrees of freedom of the rest, for each candidate, (K,).

    Returns:
        The candidate's position among the K, and its p with Bonferroni's correction. None if fewer
        than two candidates and their rests have degrees of freedom.
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
    return Noisiest(int(positions[index]), min(1.0, len(positions) * float(p[index])))


def describe_uneven_noise(design: Design) -> Iterator[str]:
    """Yield descriptions of uneven noise in a study's results.

    A description is a predicate for use after the metric's name: "has skewed noise (skewness
    +2.1)". Descriptions of significant tests are yielded in this order:

    1. an outlying result,
    2. a noisy configuration or level, unless it contains the outlying result, and
    3. skewed noise, if neither of the other tests is significant.

    Configurations with identical results are tested once.

    Args:
        design: Configurations under the same seeds.
    """
    distinct_rows = _find_distinct_rows(design.values)
    values = design.values[distinct_rows]
    candidates = _find_candidates(design, distinct_rows)
    # Three tests are for the most extreme result, the noisiest configuration and skewness. The
    # fourth is for the noisiest level; it requires configurations that share a level.
    alpha = ALPHA / (3 if len(candidates) < 2 else 4)
    extreme = find_most_extreme(values)
    outlier = extreme if extreme and extreme.p < alpha else None
    if outlier:
        name = _format_configuration(design, distinct_rows[outlier.row])
        seed = design.seeds[outlier.seed]
        distance = number_text(outlier.distance, signed=True)
        yield f"of {name} under seed {seed} is far from the rest ({distance})"
    noisiest = min(candidates, key=lambda candidate: candidate.p, default=None)
    noisy = noisiest if noisiest and noisiest.p < alpha else None
    if noisy and not (outlier and outlier.row in noisy.rows):
        yield f"of {noisy.name} varies more over seeds than the rest"
    skewness = measure_skewness(values)
    if skewness and skewness.p < alpha and not (outlier or noisy):
        yield f"has skewed noise (skewness {number_text(skewness.skewness, signed=True)})"


class _Candidate(NamedTuple):
    """A configuration, or all configurations with one level, that may be noisier than the rest.

    Attributes:
        name: Name of the configuration or level.
        rows: Positions of these configurations among those with distinct results.
        p: p-value under the null hypothesis, corrected over all configurations or all levels.
    """

    name: str
    rows: Sequence[int]
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
        rows = np.flatnonzero(factor.codes == level.position).tolist()
        # the level's p is corrected over the levels of its factor, but not yet over factors
        p = min(1.0, level.p * len(noisiest_levels))
        candidates.append(
            _Candidate(_format_level(factor.key, factor.levels[level.position]), rows, p)
        )
    if row := find_noisiest_row(values):
        name = _format_configuration(design, distinct_rows[row.position])
        candidates.append(_Candidate(name, [row.position], row.p))
    return candidates


def _format_configuration(design: Design, row: int) -> str:
    """Return a configuration as text: "n_ctx 4, lr 0.01"."""
    assignment = design.configurations[row].assignment
    return ", ".join(_format_level(key, level) for key, level in assignment.items())


def _format_level(key: str, level: Any) -> str:
    """Return a level as text: "n_ctx 4"."""
    return f"{key.split('.')[-1]} {level_text(level)}"


def _find_distinct_rows(values: Array) -> list[int]:
    """Return the positions of rows that differ, beyond rounding, from every row before them."""
    scale, distinct_rows = scale_of(values), [0]
    for row in range(1, len(values)):
        if (np.abs(values[distinct_rows] - values[row]).max(axis=1) > ROUNDING * scale).all():
            distinct_rows.append(row)
    return distinct_rows
