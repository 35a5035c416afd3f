"""Power of paired t-tests: detectable differences, and the number of further pairs."""

import math
from functools import cache

from harness.intervals import CONFIDENCE, critical

POWER = 0.80
SPREAD = 0.80  # confidence of the standard deviation's interval, for the number of further pairs
MAX_FURTHER_PAIRS = 500  # largest number of further pairs that is reported
FAR = 1_000.0  # only two pairs, or three in a very large family, have a larger critical value
# Three pairs or more at 5% miss a noncentrality of 30 in fewer than 1e-19 of studies.
# scipy.special.nctdtr returns NaN from 36 on.
MAX_NONCENTRALITY = 30.0


def minimum_detectable(std: float | None, n: int, comparisons: int = 1) -> float | None:
    """Return the true mean difference that a paired t-test of n pairs detects with 80% power.

    In a family, Holm's method tests the first comparison at 5% divided by the number of
    comparisons, two-sided. This level is used here, so that the result does not depend on the other
    comparisons.

    Args:
        std: Standard deviation of the paired differences. The observed one is itself a rough
            estimate at small n.
        n: Number of pairs.
        comparisons: Number of comparisons in the family, at least 1.

    Returns:
        None with fewer than two pairs, or if they do not vary.
    """
    if n < 2 or not std:
        return None
    return _noncentrality(n - 1, (1 - CONFIDENCE) / comparisons) * std / math.sqrt(n)


@cache
def _noncentrality(df: int, alpha: float) -> float:
    """Return the noncentrality at which a two-sided t-test at level alpha has 80% power."""
    from scipy import special

    edge = critical(df, alpha)
    if edge > FAR:
        # special.nctdtrinc fails for values this large. The numerator's standard deviation of 1 is
        # negligible here, so the power is the probability that chi-squared / df is below
        # (noncentrality / edge) ** 2.
        return edge * math.sqrt(float(special.chdtri(df, 1 - POWER)) / df)
    # The other tail adds less than 1e-6 to the power, so one tail is enough.
    return float(special.nctdtrinc(df, 1 - POWER, edge))


def further_pairs(n: int, mean: float, std: float, effect: float, family: int) -> tuple[int, int]:
    """Return the fewest and the most further pairs that lead to a verdict with 80% power.

    The mean is assumed to stay as it is. After few seeds the standard deviation is poorly known,
    and the number of pairs grows with its square. The two numbers are for the lower and the upper
    end of the standard deviation's 80% interval. For differences beyond the effect, the power is
    that of Holm's first and strictest step.

    Args:
        n: Number of pairs so far, at least 2.
        mean: Absolute mean difference of an inconclusive comparison.
        std: Standard deviation of the pairs' differences, > 0.
        effect: Smallest effect of interest.
        family: Number of comparisons that are corrected together.

    Returns:
        The fewest and the most pairs. A number above MAX_FURTHER_PAIRS is given as
        MAX_FURTHER_PAIRS + 1.
    """
    from scipy import special

    tails = (1 - SPREAD) / 2, (1 + SPREAD) / 2  # upper tail probabilities of chi-squared
    low, high = (std * math.sqrt((n - 1) / float(special.chdtri(n - 1, tail))) for tail in tails)
    fewest, most = (_find_further(n, mean, std, effect, family) for std in (low, high))
    return fewest, most


def _find_further(n: int, mean: float, std: float, effect: float, family: int) -> int:
    """Return the smallest number of pairs beyond n that leads to a verdict, by bisection.

    The power increases with the number of pairs, so every larger number is sufficient, too.

    Args:
        n: Number of pairs so far.
        mean: Absolute true difference.
        std: True standard deviation of the pairs' differences.
        effect: Smallest effect of interest.
        family: Number of comparisons that are corrected together.
    """
    too_few, enough = 0, MAX_FURTHER_PAIRS + 1
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _has_power(n + middle, mean, std, effect, family):
            enough = middle
        else:
            too_few = middle
    return enough


def _has_power(n: int, mean: float, std: float, effect: float, family: int) -> bool:
    """Return True if n pairs, at least 3, lead to a verdict with 80% power.

    The verdict is HIGHER or LOWER if the mean is beyond the effect, else EQUIVALENT.
    """
    from scipy import special

    root = math.sqrt(n) / std
    if mean > effect:
        return (mean - effect) * root >= _noncentrality(n - 1, (1 - CONFIDENCE) / family)
    edge = critical(n - 1)
    # probability that either one-sided test fails; both hardly ever fail together
    misses = sum(
        float(special.nctdtr(n - 1, min(distance * root, MAX_NONCENTRALITY), edge))
        for distance in (effect - mean, effect + mean)
    )
    return misses <= 1 - POWER
