"""Accuracies over other test classes."""

import numpy as np
import pytest

from reports.stats import DRAWS, ClassCounts, Share, interval_over_classes, resampled


def counts(right: list[float], pictures: list[float], seen: list[bool]) -> ClassCounts:
    """Of classes 0, 1, ..."""
    held = np.array(right)
    return ClassCounts(
        np.arange(len(right)), np.array(seen), np.array(pictures), {"own": held, "all": held / 2}
    )


def test_classes_are_drawn_whole_and_of_their_kind() -> None:
    """Pictures count as often as their class is drawn; the other kind's classes do not count."""
    rng = np.random.default_rng(1)
    pictures = rng.integers(5, 20, 24).astype(float)
    right = np.floor(pictures * rng.random(24))
    seen = [True] * 12 + [False] * 12
    found = resampled(counts(list(right), list(pictures), seen), Share("own", seen=False))
    assert found is not None and found.shape == (DRAWS,)
    own = 100 * right[12:].sum() / pictures[12:].sum()
    # the bootstrap's own centre and spread, from the classes' accuracies around the mean
    residual = right[12:] - own / 100 * pictures[12:]
    spread = 100 * np.sqrt((residual**2).sum()) / pictures[12:].sum()
    assert found.mean() == pytest.approx(own, abs=0.25 * spread)
    wider = 2.201 / 1.960 * np.sqrt(12 / 11)  # Student's t of 11 in place of the normal
    assert found.std() == pytest.approx(wider * spread, rel=0.15)
    half = resampled(counts(list(right), list(pictures), seen), Share("all", seen=False))
    assert half == pytest.approx(found / 2)


def test_a_class_average_weighs_classes_alike() -> None:
    """As generalized zero-shot accuracies do."""
    pictures = [100.0] + [1.0] * 11
    found = resampled(
        counts([0.0] + [1.0] * 11, pictures, [True] * 12), Share("own", by_class=True)
    )
    assert found is not None
    assert found.mean() == pytest.approx(100 * 11 / 12, abs=1)


def test_few_classes_and_other_answers_give_none() -> None:
    """Nine classes say little; a kind of answer that is not kept says nothing."""
    nine = counts([1.0] * 9, [2.0] * 9, [True] * 9)
    assert resampled(nine, Share("own")) is None
    ten = counts([1.0] * 10, [2.0] * 10, [True] * 10)
    assert resampled(ten, Share("own")) == pytest.approx(np.full(DRAWS, 50.0))
    assert resampled(ten, Share("own", seen=False)) is None
    assert resampled(ten, Share("calibrated")) is None


@pytest.mark.parametrize("k", [10, 50])
def test_the_interval_covers_the_truth_of_all_classes(k: int) -> None:
    """Differences that vary from class to class; the tested k are drawn from endlessly many."""
    rng, held, studies = np.random.default_rng(0), 0, 400
    pictures = np.full(k, 10.0)
    for _ in range(studies):
        easy = rng.beta(3, 2, k)
        moved = np.clip(easy + rng.normal(0.0, 0.1, k), 0, 1)
        ids = rng.integers(10**6, size=k)  # other classes, so other draws
        right = [{"all": rng.binomial(10, p).astype(float)} for p in (easy, moved)]
        a, b = (ClassCounts(ids, np.ones(k, bool), pictures, held) for held in right)
        one, other = resampled(a, Share("all")), resampled(b, Share("all"))
        assert one is not None and other is not None
        found = interval_over_classes(0.0, [other - one])
        # the clipping pulls the mean down a little: what it is with endlessly many classes
        truth = -0.12
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
    assert 0.925 <= held / studies <= 0.98
