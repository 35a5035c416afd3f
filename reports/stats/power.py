"""Power of paired t-tests: detectable differences, and the number of further pairs."""

import math
from functools import cache

from harness.intervals import CONFIDENCE, compute_t_critical

POWER = 0.80
# Confidence of the standard deviation's interval in estimate_further_pairs.
STD_CONFIDENCE = 0.80
MAX_FURTHER_PAIRS = 500  # largest number of further pairs that is reported
# Critical value of t above which special.nctdtrinc fails. Only tests of two pairs exceed it, or of
# three pairs in a very large family.
MAX_CRITICAL = 1_000.0
# Larger noncentralities are replaced by this one, because special.nctdtr returns NaN from 36 on.
# The difference is negligible: with three or more pairs, a test at 5% misses a noncentrality of 30
# with a probability below 1e-19.
MAX_NONCENTRALITY = 30.0


def compute_minimum_detectable(std: float | None, n: int, comparisons: int = 1) -> float | None:
    """Return the true mean difference that a paired t-test of n pairs detects with 80% power.

    The test is two-sided, at 5% divided by the number of comparisons. This is the strictest step of
    Holm's method, so the result does not depend on the p-values of the other comparisons.

    Args:
        std: Standard deviation of the paired differences. If it was observed with small n, it is
            itself a rough estimate. None or 0 if they do not vary.
        n: Number of pairs.
        comparisons: Number of comparisons in the family, at least 1.

    Returns:
        The difference. None with fewer than two pairs, or if the differences do not vary.
    """
    if n < 2 or not std:
        return None
    return _find_noncentrality(n - 1, (1 - CONFIDENCE) / comparisons) * std / math.sqrt(n)


@cache
def _find_noncentrality(df: int, alpha: float) -> float:
    """Return the noncentrality at which a two-sided t-test at level alpha has 80% power."""
    from scipy import special

    critical_t = compute_t_critical(df, alpha)
    if critical_t > MAX_CRITICAL:
        # The numerator's standard deviation of 1 is negligible here, so the power is the
        # probability that chi-squared / df is below (noncentrality / critical_t) ** 2.
        return critical_t * math.sqrt(float(special.chdtri(df, 1 - POWER)) / df)
    # only one tail is computed; the other adds less than 1e-6 to the power
    return float(special.nctdtrinc(df, 1 - POWER, critical_t))


def estimate_further_pairs(
    n: int, mean: float, std: float, effect: float, family: int
) -> tuple[int, int]:
    """Return how many further pairs lead to a verdict with 80% power, as (fewest, most).

    The true mean is assumed to be the observed one. After few seeds the standard deviation is
    poorly known, and the number of pairs grows with its square. The two numbers are therefore for
    the lower and the upper end of the standard deviation's 80% interval. For a mean beyond the
    effect, the test is that of Holm's first and strictest step.

    Args:
        n: Number of pairs so far, at least 2.
        mean: Absolute mean difference of an inconclusive comparison.
        std: Standard deviation of the pairs' differences, > 0.
        effect: Smallest effect of interest.
        family: Number of comparisons that are corrected together.

    Returns:
        (fewest, most). Numbers above MAX_FURTHER_PAIRS are returned as MAX_FURTHER_PAIRS + 1.
    """
    from scipy import special

    # upper tail probabilities of chi-squared; the first gives the lower end of the interval
    tails = (1 - STD_CONFIDENCE) / 2, (1 + STD_CONFIDENCE) / 2
    low, high = (std * math.sqrt((n - 1) / float(special.chdtri(n - 1, tail))) for tail in tails)
    fewest, most = (_find_further(n, mean, std, effect, family) for std in (low, high))
    return fewest, most


def _find_further(n: int, mean: float, std: float, effect: float, family: int) -> int:
    """Return the smallest number of further pairs that leads to a verdict with 80% power.

    Bisection finds it, because the power increases with the number of pairs.

    Args:
        n: Number of pairs so far.
        mean: Absolute true difference.
        std: True standard deviation of the pairs' differences.
        effect: Smallest effect of interest.
        family: Number of comparisons that are corrected together.

    Returns:
        A number from 1 to MAX_FURTHER_PAIRS + 1. The largest means that MAX_FURTHER_PAIRS are too
        few.
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
    """Return True if n >= 3 pairs lead to a verdict with 80% power.

    The verdict is HIGHER or LOWER if the mean is beyond the effect, else EQUIVALENT.
    """
    from scipy import special

    root = math.sqrt(n) / std
    if mean > effect:
        return (mean - effect) * root >= _find_noncentrality(n - 1, (1 - CONFIDENCE) / family)
    critical_t = compute_t_critical(n - 1)
    # Probability that one of the two one-sided tests fails: nearly the sum of their probabilities,
    # because both hardly ever fail together.
    miss_probability = sum(
        float(special.nctdtr(n - 1, min(distance * root, MAX_NONCENTRALITY), critical_t))
        for distance in (effect - mean, effect + mean)
    )
    return miss_probability <= 1 - POWER
