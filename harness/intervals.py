"""Means and their confidence intervals over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

CONFIDENCE = 0.95
# Differences up to these fractions of the values are rounding errors: ROUNDING for numbers computed
# in double precision, MEASURED_ROUNDING for metrics measured in single precision.
ROUNDING = 1e-9
MEASURED_ROUNDING = 1e-5


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval.

    Attributes:
        mean: The mean.
        low: Lower end of the interval. None if there is no interval.
        high: Upper end of the interval. None if there is no interval.
        n: Number of values.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


def compute_scale(values: npt.ArrayLike) -> float:
    """Return the largest absolute value, or 0 without values. ROUNDING is a fraction of it."""
    return float(np.abs(values).max(initial=0.0))


def remove_rounding_errors(differences: npt.ArrayLike, scale: float) -> Array:
    """Replace differences or contrasts that are only rounding errors by 0.

    Otherwise a factor without effect could look significant: its contrasts are about 1e-14, and
    test statistics are ratios of contrasts.

    Args:
        differences: Differences or contrasts, of any shape.
        scale: Scale of the values that were subtracted, see `compute_scale`.
    """
    array = np.asarray(differences, dtype=np.float64)
    return np.where(np.abs(array) > ROUNDING * scale, array, 0.0)


def is_rounding(differences: npt.ArrayLike, scale: float) -> bool:
    """Return True if all differences are only rounding errors.

    Args:
        differences: Differences or contrasts, of any shape.
        scale: Scale of the values that were subtracted, see `compute_scale`.
    """
    return not remove_rounding_errors(differences, scale).any()


def compute_mean_interval(values: Sequence[float]) -> Estimate:
    """Compute the mean and its two-sided 95% t-interval, mean ± t(0.975, n - 1) s / sqrt(n).

    `low` and `high` are None for a single value. They are also None for equal values, because
    another seed could still give another value.

    Args:
        values: At least one number, one per seed, all finite.

    Raises:
        ValueError: There are no values, or a value is not finite.
    """
    # for a few seeds, numpy's mean() and std() take four times as long as add.reduce
    array = np.asarray(values, dtype=np.float64)
    n = int(array.size)
    mean = float(np.add.reduce(array)) / n if n else math.nan
    if not math.isfinite(mean):
        raise ValueError(f"need at least one value, all finite, got {list(values)}")
    deviations = array - mean
    std = math.sqrt(float(np.add.reduce(deviations * deviations)) / (n - 1)) if n > 1 else 0.0
    if std <= ROUNDING * compute_scale(array):
        return Estimate(mean, None, None, n)
    half_width = compute_t_critical(n - 1) * std / math.sqrt(n)
    return Estimate(mean, mean - half_width, mean + half_width, n)


def compute_percent_interval(values: Sequence[float]) -> Estimate:
    """Compute the mean of percentages and its 95% t-interval on the logit scale.

    With m the mean and s the standard deviation, the logit of m/100 has the standard error
    s / (sqrt(n) m (1 - m/100)) by the delta method. The t-interval of the logit is mapped back to
    percentages. It is within 0 to 100, and its longer side is towards 50. `low` and `high` are None
    if the mean is 0 or 100, which have no logit, or if those of `compute_mean_interval` are None.

    Args:
        values: At least one percentage, one per seed, all finite.

    Raises:
        ValueError: There are no values, or a value is not finite.
    """
    estimate = compute_mean_interval(values)
    proportion = estimate.mean / 100
    if estimate.high is None or not 0 < proportion < 1:
        return Estimate(estimate.mean, None, None, estimate.n)
    logit = math.log(proportion / (1 - proportion))
    half_width = (estimate.high - estimate.mean) / 100 / (proportion * (1 - proportion))
    ends = (logit - half_width, logit + half_width)
    low, high = (100 * math.exp(-np.logaddexp(0, -end)) for end in ends)
    return Estimate(estimate.mean, low, high, estimate.n)


def compute_t_tail(statistic: float, freedom: int) -> float:
    """Return the probability that Student's t exceeds a statistic.

    Args:
        statistic: Statistic of the test.
        freedom: Degrees of freedom, at least 1.
    """
    from scipy import special

    return float(special.stdtr(freedom, -statistic))


def compute_t_critical(freedom: int, alpha: float = 1 - CONFIDENCE) -> float:
    """Return the critical value of Student's t for a two-sided test.

    Args:
        freedom: Degrees of freedom, at least 1.
        alpha: Significance level: the probability of both tails together.
    """
    from scipy import special

    return -float(special.stdtrit(freedom, alpha / 2))
