"""Means with their intervals over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

CONFIDENCE = 0.95
# Numbers whose difference is below this share of their size are one number plus rounding: those
# that are computed in double precision, and those that are measured in single precision.
ROUNDING = 1e-9
MEASURED_ROUNDING = 1e-5


@dataclass(frozen=True)
class Estimate:
    """A mean over n units and its 95% interval (None where the values give none)."""

    mean: float
    low: float | None
    high: float | None
    n: int


def scale_of(values: npt.ArrayLike) -> float:
    """The largest absolute value, which rounding is held against; 0 of none."""
    return float(np.abs(values).max(initial=0.0))


def without_rounding(differences: npt.ArrayLike, scale: float) -> Array:
    """Differences, or contrasts, in which what is only rounding is exactly 0.

    A factor that changes nothing has contrasts of 1e-14, whose ratios look like effects.

    Args:
        differences: of any shape.
        scale: size of the values that were subtracted from each other.
    """
    found = np.asarray(differences, dtype=np.float64)
    return np.where(np.abs(found) > ROUNDING * scale, found, 0.0)


def is_rounding(differences: npt.ArrayLike, scale: float) -> bool:
    """Whether nothing is left of differences without what is only rounding.

    Args:
        differences, scale: as of without_rounding.
    """
    return not without_rounding(differences, scale).any()


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean and two-sided 95% t-interval, mean ± t(0.975, n - 1) s / sqrt(n).

    Where the values do not vary there is no interval: these values do not show that other seeds
    would give the same.

    Args:
        values: one number a seed, finite, at least one. With one there is no interval.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    # numpy's sums without its mean() and std(), which take four times as long for a few seeds
    array = np.asarray(values, dtype=np.float64)
    n = int(array.size)
    mean = float(np.add.reduce(array)) / n if n else math.nan
    if not math.isfinite(mean):
        raise ValueError(f"need at least one value, all finite, got {list(values)}")
    apart = array - mean
    std = math.sqrt(float(np.add.reduce(apart * apart)) / (n - 1)) if n > 1 else 0.0
    if std <= ROUNDING * scale_of(array):
        return Estimate(mean, None, None, n)
    half = critical(n - 1) * std / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def percent_interval(values: Sequence[float]) -> Estimate:
    """Mean of percentages and a 95% t-interval that is made on the logit scale, so within 0 to 100.

    With m the mean and s the deviation, the logit of m/100 has the standard error
    s / (sqrt(n) m (1 - m/100)) by the delta method; the t-interval of the logit is mapped back. It
    is wider towards the middle of the scale. At 0 and 100 there is no logit, and no interval.

    Args:
        values: percentages, one a seed; as in mean_interval.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    plain = mean_interval(values)
    share = plain.mean / 100
    if plain.high is None or not 0 < share < 1:
        return Estimate(plain.mean, None, None, plain.n)
    half = (plain.high - plain.mean) / 100 / (share * (1 - share))
    middle = math.log(share / (1 - share))
    low, high = (100 * math.exp(-np.logaddexp(0, -(middle + way * half))) for way in (-1, 1))
    return Estimate(plain.mean, low, high, plain.n)


def t_tail(statistic: float, freedom: int) -> float:
    """Probability that Student's t exceeds a statistic.

    Args:
        statistic: of the test.
        freedom: degrees of freedom, at least 1.
    """
    from scipy import special

    return float(special.stdtr(freedom, -statistic))


def critical(freedom: int, alpha: float = 1 - CONFIDENCE) -> float:
    """Student's t that is exceeded in either direction with probability alpha.

    Args:
        freedom: degrees of freedom, at least 1.
        alpha: of both tails together.
    """
    from scipy import special

    return -float(special.stdtrit(freedom, alpha / 2))
