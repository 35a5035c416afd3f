"""Whether a difference matters: decided, equivalent or undecided, against a smallest effect."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from reports.stats.intervals import CONFIDENCE, Estimate, critical, t_tail
from reports.stats.paired import holm

MOST_SEEDS = 500  # further ones that a reader is told of; beyond, the number says nothing
_ALPHA = 1 - CONFIDENCE


class Verdict(StrEnum):
    """What an interval says about the smallest effect of interest.

    DECIDED: the true difference is beyond it, Holm-corrected over the family. EQUIVALENT: the 95%
    interval lies within it, in both directions. UNDECIDED: neither. DIFFERS: from 0, as a study's
    own design says it (see Ending), where that takes the place of DECIDED.
    """

    DECIDED = "decided"
    DIFFERS = "differs"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Judgement:
    """The verdict on one difference.

    more: pairs that would settle it, beside those there are, were mean and deviation to stay as
        they are; more than MOST_SEEDS where none up to that number would. None where it is settled,
        or where nothing is known of the deviation.
    """

    verdict: Verdict
    more: int | None = None


def judge(differences: Sequence[Estimate | None], effect: float) -> list[Judgement | None]:
    """Judge a family of differences.

    A difference is decided by the minimum-effect test (Murphy and Myors, 1999): Student's t of
    |mean| - effect, two-sided, Holm-corrected over the family. It is equivalent where its 95%
    interval lies within ±effect, that is by two one-sided tests at 2.5% (Schuirmann, 1987); that
    is not corrected, since a claim that all are equivalent needs no correction.

    Args:
        differences: with their 95% t-intervals; None is not judged.
        effect: the smallest effect of interest, > 0, in the differences' unit.

    Returns:
        A judgement each. Pairs that do not vary say nothing about others: undecided.
    """
    corrected = holm([None if d is None else beyond_p(d, effect) for d in differences])
    family = sum(p is not None for p in corrected)
    return [
        None if d is None else _judged(d, p, effect, family)
        for d, p in zip(differences, corrected, strict=True)
    ]


def _judged(difference: Estimate, p: float | None, effect: float, family: int) -> Judgement:
    if p is not None and p < _ALPHA:
        return Judgement(Verdict.DECIDED)
    low, high = difference.low, difference.high
    if low is not None and high is not None and -effect < low and high < effect:
        return Judgement(Verdict.EQUIVALENT)
    return Judgement(Verdict.UNDECIDED, further_pairs(difference, effect, family))


def standard_error(difference: Estimate) -> float | None:
    """The standard error behind a t-interval; None where there is no interval."""
    if difference.low is None or difference.high is None:
        return None
    return (difference.high - difference.low) / 2 / critical(difference.n - 1)


def beyond_p(difference: Estimate, effect: float) -> float | None:
    """Two-sided p of the minimum-effect test that the true difference is within ±effect."""
    error = standard_error(difference)
    if error is None:
        return None
    beyond = (abs(difference.mean) - effect) / error
    return min(1.0, 2 * t_tail(beyond, difference.n - 1))


def further_pairs(difference: Estimate, effect: float, family: int = 1) -> int | None:
    """Pairs beside those there are, until the difference is decided or equivalent.

    It takes the mean and the deviation to stay as they are. Beyond the effect it counts Holm's
    first step, the strictest that the family may ask for.

    Args:
        difference: undecided.
        effect: the smallest effect of interest.
        family: comparisons that are corrected together.

    Returns:
        MOST_SEEDS + 1 where more than MOST_SEEDS are needed; None where nothing is known of the
        deviation.
    """
    error = standard_error(difference)
    if error is None:
        return None
    beyond = abs(difference.mean) > effect
    alpha = _ALPHA / family if beyond else _ALPHA
    margin, deviation = abs(abs(difference.mean) - effect), error * math.sqrt(difference.n)
    for n in range(difference.n + 1, difference.n + MOST_SEEDS + 1):
        if critical(n - 1, alpha) * deviation / math.sqrt(n) < margin:
            return n - difference.n
    return MOST_SEEDS + 1
