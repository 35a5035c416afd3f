"""Accuracies over other test classes."""

import numpy as np
import pytest

from reports.stats import DRAWS, compute_interval_over_classes, resample_accuracy


def test_classes_are_resampled_with_all_their_images() -> None:
    """Images count as often as their class is drawn."""
    rng = np.random.default_rng(1)
    images = rng.integers(5, 20, 12).astype(float)
    right = np.floor(images * rng.random(12))
    draws = resample_accuracy("", range(12), right, images)
    assert draws is not None and draws.shape == (DRAWS,)
    mean = 100 * right.sum() / images.sum()
    # the bootstrap's own center and spread, from the classes' accuracies around the mean
    residual = right - mean / 100 * images
    spread = 100 * np.sqrt((residual**2).sum()) / images.sum()
    assert draws.mean() == pytest.approx(mean, abs=0.25 * spread)
    wider = 2.201 / 1.960 * np.sqrt(12 / 11)  # Student's t of 11 in place of the normal
    assert draws.std() == pytest.approx(wider * spread, rel=0.15)
    assert resample_accuracy("", range(12), right / 2, images) == pytest.approx(draws / 2)


def test_few_classes_have_no_interval() -> None:
    """Nine classes are too few."""
    assert resample_accuracy("", range(9), np.ones(9), np.full(9, 2.0)) is None
    ten = resample_accuracy("", range(10), np.ones(10), np.full(10, 2.0))
    assert ten == pytest.approx(np.full(DRAWS, 50.0))


@pytest.mark.parametrize("k", [10, 50])
def test_the_interval_covers_the_truth_of_all_classes(k: int) -> None:
    """Differences vary between classes, and the tested classes are drawn from infinitely many."""
    rng, n_covered, studies = np.random.default_rng(0), 0, 400
    images = np.full(k, 10.0)
    for _ in range(studies):
        easy = rng.beta(3, 2, k)
        moved = np.clip(easy + rng.normal(0.0, 0.1, k), 0, 1)
        ids = rng.integers(10**6, size=k).tolist()  # other classes, so other draws
        right = [rng.binomial(10, p).astype(float) for p in (easy, moved)]
        first, second = (resample_accuracy("", ids, n_covered, images) for n_covered in right)
        assert first is not None and second is not None
        interval = compute_interval_over_classes(0.0, [second - first])
        # the clipping pulls the mean down a little: what it is with endlessly many classes
        truth = -0.12
        assert interval.low is not None and interval.high is not None
        n_covered += interval.low <= truth <= interval.high
    assert 0.925 <= n_covered / studies <= 0.98
