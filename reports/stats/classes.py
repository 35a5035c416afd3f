"""Accuracies over other test classes, by resampling whole classes with their images.

Source: the cluster bootstrap (Davison and Hinkley, "Bootstrap Methods and their Application", 1997,
section 3.8). Images of one class are alike, and a test set has few classes. An interval that treats
images as independent, or the tested classes as the only ones, is too narrow.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from harness.intervals import CONFIDENCE, Array, Estimate, critical

DRAWS = 1_000
MIN_CLASSES = 10  # with fewer classes, resampling them is not informative


def resample_accuracy(
    eval_set: str, ids: Sequence[int], correct: Array, images: Array
) -> Array | None:
    """Return an accuracy under DRAWS bootstrap samples of the classes.

    The draws depend only on the evaluation set and its classes. Configurations that were tested on
    the same classes share the draws, so their differences are paired. A percentile interval of k
    classes is narrower than a t-interval: it lacks the factor sqrt(k / (k - 1)) and uses the normal
    quantile instead of Student's. The draws are widened by both factors.

    Args:
        eval_set: Name of the evaluation set.
        ids: IDs of the k classes, in ascending order.
        correct: Number of correct answers per class, (k,).
        images: Number of images per class, (k,).

    Returns:
        (DRAWS,) in percent; None with fewer than MIN_CLASSES classes.
    """
    if len(ids) < MIN_CLASSES:
        return None
    weights = _class_weights(eval_set, tuple(ids))
    mean, samples = correct.sum() / images.sum(), (weights @ correct) / (weights @ images)
    return np.asarray(100 * (mean + _widening_factor(len(correct)) * (samples - mean)))


def interval_over_classes(mean: float, draws: Sequence[Array]) -> Estimate:
    """Return the percentile interval of a mean (or mean difference) over other test classes.

    Args:
        mean: Mean over the tested classes and the seeds.
        draws: (DRAWS,) for each seed; n of the estimate is the number of seeds.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.mean(draws, axis=0), [tail, 1 - tail])
    return Estimate(mean, float(low), float(high), len(draws))


def max_correct_by_guessing(images: int, classes: int) -> int:
    """Return the largest number of correct answers that is no better than guessing.

    Uniform guessing exceeds it in at most 5% of cases, by the binomial distribution.

    Args:
        images: Number of test images.
        classes: Number of classes to guess among.
    """
    from scipy import special

    numbers = np.arange(images + 1, dtype=np.float64)
    exceeded = special.bdtrc(numbers, images, 1 / classes)  # probability of more correct answers
    return int(np.argmax(exceeded <= 1 - CONFIDENCE))


def _widening_factor(k: int) -> float:
    """Return the ratio of a t-interval's width to that of a percentile interval of k classes."""
    from scipy import special

    normal = -float(special.ndtri((1 - CONFIDENCE) / 2))
    return critical(k - 1) / normal * math.sqrt(k / (k - 1))


@lru_cache(maxsize=16)
def _class_weights(eval_set: str, ids: tuple[int, ...]) -> Array:
    """Return how often each class occurs in each draw, (DRAWS, k)."""
    rng = np.random.default_rng([*eval_set.encode(), *ids])
    k = len(ids)
    return rng.multinomial(k, np.full(k, 1 / k), size=DRAWS).astype(np.float64)
