"""Accuracies over other classes: the test's classes are drawn again, whole, with their pictures.

Source: the cluster bootstrap (Davison and Hinkley, "Bootstrap Methods and their Application", 1997,
section 3.8). Pictures of a class are alike, and a test has few classes: an interval that takes its
pictures for independent, or its classes for all there are, is too narrow.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from harness.intervals import CONFIDENCE, Array, Estimate, critical

DRAWS = 1_000
FEWEST = 10  # classes of a kind; with fewer, drawing them again says little


def resampled(exam: str, ids: Sequence[int], right: Array, pictures: Array) -> Array | None:
    """An accuracy under DRAWS draws of as many classes as there are, with replacement.

    The draws depend on the exam and its classes alone: settings that were tested on the same ones
    share them, so that their differences are paired. They are spread a little, since a percentile
    interval of k classes is narrower than a t-interval by sqrt(1 - 1/k) and by the normal
    quantile in place of Student's.

    Args:
        exam: that the test was.
        ids: of its k classes, in ascending order.
        right, pictures: (k,): of how many pictures of a class how many answers were right.

    Returns:
        (DRAWS,) in percent; None with fewer than FEWEST classes.
    """
    if len(ids) < FEWEST:
        return None
    weights = _weights(exam, tuple(ids))
    mean, drawn = right.sum() / pictures.sum(), (weights @ right) / (weights @ pictures)
    return np.asarray(100 * (mean + _widening(len(right)) * (drawn - mean)))


def interval_over_classes(mean: float, draws: Sequence[Array]) -> Estimate:
    """The percentile interval, over other classes, of a mean (or mean difference) over seeds.

    Args:
        mean: of the classes that were tested.
        draws: (DRAWS,) for each seed; n is their number.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.mean(draws, axis=0), [tail, 1 - tail])
    return Estimate(mean, float(low), float(high), len(draws))


def most_by_guessing(images: int, classes: int) -> int:
    """Return the largest number of right answers that is no better than guessing.

    That is one below the smallest number that uniform guessing reaches in at most 5% of cases, by
    the binomial distribution.

    Args:
        images: Number of test images.
        classes: Number of classes that compete.
    """
    from scipy import special

    numbers = np.arange(images + 1, dtype=np.float64)
    reached_by_more = special.bdtrc(numbers, images, 1 / classes)  # P(more than this many)
    return int(np.argmax(reached_by_more <= 1 - CONFIDENCE))


def _widening(k: int) -> float:
    """Factor from the spread of draws of k classes to that of a t-interval."""
    from scipy import special

    normal = -float(special.ndtri((1 - CONFIDENCE) / 2))
    return critical(k - 1) / normal * math.sqrt(k / (k - 1))


@lru_cache(maxsize=16)
def _weights(exam: str, ids: tuple[int, ...]) -> Array:
    """How often each class is in each draw, (DRAWS, k)."""
    rng, k = np.random.default_rng([*exam.encode(), *ids]), len(ids)
    return rng.multinomial(k, np.full(k, 1 / k), size=DRAWS).astype(np.float64)
