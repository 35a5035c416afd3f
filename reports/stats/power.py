"""What paired t-tests find: with so many pairs, and with how many more."""

import math
from functools import cache

from harness.intervals import CONFIDENCE, critical

POWER = 0.80
SPREAD = 0.80  # confidence of the deviation's interval behind the numbers of further pairs
MOST_FURTHER = 500  # further ones that a reader is told of; beyond, the number says nothing
FAR = 1_000.0  # a critical value that only two pairs, or three of very many comparisons, have


def minimum_detectable(std: float | None, n: int, comparisons: int = 1) -> float | None:
    """The true mean difference that a paired t-test of n pairs finds with 80% power.

    Of several comparisons, Holm's method tests the first at 5% divided by their number, two-sided.
    That level is taken here: a difference of this size is found whatever the others are.

    Args:
        std: standard deviation of the paired differences; the observed one is itself a rough guess
            at small n.
        n: pairs; below 2, or where they do not vary, nothing is detectable (None).
        comparisons: in the family, at least 1.
    """
    if n < 2 or not std:
        return None
    return _noncentrality(n - 1, (1 - CONFIDENCE) / comparisons) * std / math.sqrt(n)


@cache
def _noncentrality(freedom: int, alpha: float) -> float:
    """Of the t-distribution that passes the two-sided test at alpha with 80% power."""
    from scipy import special

    edge = critical(freedom, alpha)
    if edge > FAR:
        # The numerator's own deviation of 1 is nothing beside it: what is left is the chance that
        # chi-squared / freedom is below the square of noncentrality / edge. special.nctdtrinc has
        # no value that far out.
        return edge * math.sqrt(float(special.chdtri(freedom, 1 - POWER)) / freedom)
    # The far tail's share of the power is below 1e-6 here, so one tail is enough.
    return float(special.nctdtrinc(freedom, 1 - POWER, edge))


def further_pairs(n: int, mean: float, std: float, effect: float, family: int) -> tuple[int, int]:
    """Return how many further pairs settle a difference with 80% power: the fewest and the most.

    The mean is taken as it is. The deviation is at either end of its 80% interval: after few seeds
    it is hardly known, and the number of pairs goes with its square. Beyond the effect, Holm's
    first step counts, the strictest that the family may ask for.

    Args:
        n: Number of pairs so far, at least 2.
        mean: Absolute mean difference, undecided.
        std: Standard deviation of the pairs' differences, > 0.
        effect: The smallest effect of interest.
        family: Comparisons that are corrected together.

    Returns:
        MOST_FURTHER + 1 at an end where more than MOST_FURTHER are needed.
    """
    from scipy import special

    tails = (1 - SPREAD) / 2, (1 + SPREAD) / 2  # chi-squared beyond it: many, and few, of cases
    low, high = (std * math.sqrt((n - 1) / float(special.chdtri(n - 1, tail))) for tail in tails)
    fewest, most = (_further(n, mean, std, effect, family) for std in (low, high))
    return fewest, most


def _further(n: int, mean: float, std: float, effect: float, family: int) -> int:
    """Return the least number of pairs beside n that settles a difference, by bisection.

    Args:
        n: Number of pairs so far.
        mean: Absolute true difference.
        std: True standard deviation of the pairs' differences.
        effect: Smallest effect of interest.
        family: Comparisons that are corrected together.
    """
    short, enough = 0, MOST_FURTHER + 1
    while enough - short > 1:
        middle = (short + enough) // 2
        if _power(n + middle, mean, std, effect, family) >= POWER:
            enough = middle
        else:
            short = middle
    return enough


def _power(n: int, mean: float, std: float, effect: float, family: int) -> float:
    """Return the chance that n pairs are decided, or equivalent if the difference is that small."""
    from scipy import special

    root = math.sqrt(n) / std
    if mean > effect:
        edge = critical(n - 1, (1 - CONFIDENCE) / family)
        return 1 - float(special.nctdtr(n - 1, (mean - effect) * root, edge))
    # either side is missed about as rarely as both together
    sides = [(effect - mean) * root, (effect + mean) * root]
    edge = critical(n - 1)
    return 1 - sum(float(special.nctdtr(n - 1, side, edge)) for side in sides)
