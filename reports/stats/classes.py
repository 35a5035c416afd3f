"""How an accuracy would vary if other classes were tested: a bootstrap over classes.

Images of one class are alike, and a test set has few classes. An interval that treats images as
independent is too narrow, so whole classes are resampled with all of their images. Source: the
cluster bootstrap (Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section
3.8).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from harness.intervals import CONFIDENCE, Array, Estimate, compute_t_critical

DRAWS = 1_000  # bootstrap samples
MIN_CLASSES = 10  # with fewer classes, resampling them is not informative


def resample_accuracy(
    eval_set: str, ids: Sequence[int], n_correct: Array, n_images: Array
) -> Array | None:
    """Return an accuracy under DRAWS bootstrap samples of the classes.

    The samples depend only on the evaluation set and its classes. Configurations that were tested
    on the same classes therefore have the same samples, and their differences are paired.

    With k classes, the percentile interval of a plain bootstrap is narrower than a t-interval: it
    lacks the factor sqrt(k / (k - 1)) and corresponds to the normal quantile instead of Student's.
    To correct both, the deviations of the samples from the accuracy are multiplied by the ratio of
    the widths.

    Args:
        eval_set: Name of the evaluation set.
        ids: IDs of the k classes, in ascending order.
        n_correct: Number of correct predictions per class, (k,).
        n_images: Number of images per class, (k,).

    Returns:
        The accuracies in percent, (DRAWS,). None with fewer than MIN_CLASSES classes.
    """
    if len(ids) < MIN_CLASSES:
        return None
    weights = _draw_class_weights(eval_set, tuple(ids))
    accuracy = n_correct.sum() / n_images.sum()
    samples = (weights @ n_correct) / (weights @ n_images)
    return np.asarray(100 * (accuracy + _compute_widening(len(ids)) * (samples - accuracy)))


def compute_interval_over_classes(mean: float, samples: Sequence[Array]) -> Estimate:
    """Return a mean, or a mean difference, with its percentile interval over other test classes.

    Args:
        mean: Mean over the tested classes and the seeds.
        samples: Bootstrap samples of each seed's accuracy, (DRAWS,), as from resample_accuracy. For
            a mean difference, differences of such samples.

    Returns:
        The estimate. Its n is the number of seeds.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.mean(samples, axis=0), [tail, 1 - tail])
    return Estimate(mean, float(low), float(high), len(samples))


def compute_max_correct_by_guessing(n_images: int, n_classes: int) -> int:
    """Return the 95% quantile of the number of correct predictions under uniform guessing.

    Args:
        n_images: Number of test images.
        n_classes: Number of classes to guess among.
    """
    from scipy import special

    numbers = np.arange(n_images + 1, dtype=np.float64)
    tails = special.bdtrc(numbers, n_images, 1 / n_classes)  # of more correct predictions
    return int(np.argmax(tails <= 1 - CONFIDENCE))


def _compute_widening(k: int) -> float:
    """Return the width of a t-interval relative to a percentile interval, both of k classes."""
    from scipy import special

    normal = -float(special.ndtri((1 - CONFIDENCE) / 2))
    return compute_t_critical(k - 1) / normal * math.sqrt(k / (k - 1))


@lru_cache(maxsize=16)
def _draw_class_weights(eval_set: str, ids: tuple[int, ...]) -> Array:
    """Draw how often each of the k classes occurs in each bootstrap sample, (DRAWS, k)."""
    rng = np.random.default_rng([*eval_set.encode(), *ids])
    k = len(ids)
    return rng.multinomial(k, np.full(k, 1 / k), size=DRAWS).astype(np.float64)
