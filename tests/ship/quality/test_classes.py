"""Class means and nearest-mean classifiers; diversity and effective rank."""

import itertools

import numpy as np
import pytest
import torch

from ship.quality import (
    LabelledSet,
    cosines_to_mean,
    cross_accuracies,
    diversity,
    effective_rank,
)
from tests.ship.quality.planted import clustered, unit


def test_cosines_equal_a_loop_over_classes() -> None:
    """Means by hand, with numpy, of five classes whose features share their centres."""
    centres = unit(5, 8)
    real, made = (LabelledSet(*clustered(centres, n, seed=n)) for n in (4, 3))
    texts = unit(5, 8)
    found = cosines_to_mean(made, real, texts)
    expected = {"cosine_to_mean": [], "text_cosine_to_mean": []}
    for c, text in enumerate(texts.numpy()):
        truth, mean = (own.features[own.labels == c].numpy().mean(axis=0) for own in (real, made))
        for name, vector in (("cosine_to_mean", mean), ("text_cosine_to_mean", text)):
            cosine = vector @ truth / np.linalg.norm(vector) / np.linalg.norm(truth)
            expected[name].append(float(cosine))
    assert found == pytest.approx({k: np.mean(v) for k, v in expected.items()})


def test_accuracies_tell_the_directions_apart() -> None:
    """Synthetic features of one class that lie at another class are counted, each way its own."""
    axes = torch.eye(3, dtype=torch.float64)
    real = LabelledSet(axes.repeat_interleave(2, dim=0), torch.tensor([0, 0, 1, 1, 2, 2]))
    # class 0's one feature is right; of class 1's three, two lie at 2; class 2's one is right
    made = LabelledSet(axes[[0, 1, 2, 2, 2]], torch.tensor([0, 1, 1, 1, 2]))
    accuracies = cross_accuracies(made, real)
    assert accuracies["real_to_synthetic"] == pytest.approx(60)
    assert accuracies["synthetic_to_real"] == 100


def test_a_single_class_has_no_accuracy() -> None:
    """With nothing to be confused with, 100% would say nothing."""
    rows = LabelledSet(unit(3, 4), torch.zeros(3, dtype=torch.long))
    assert cross_accuracies(rows, rows) == {}


def test_diversity_equals_a_loop_over_pairs() -> None:
    """Mean over classes of the mean over pairs; a class with one picture does not count."""
    features, labels = unit(9, 5), torch.tensor([0, 0, 0, 0, 1, 2, 2, 2, 0])
    means = []
    for c in (0, 2):
        rows = features[labels == c]
        pairs = [1 - float(a @ b) for a, b in itertools.combinations(rows, 2)]
        means.append(sum(pairs) / len(pairs))
    assert diversity(LabelledSet(features, labels)) == pytest.approx(sum(means) / 2)


def test_diversity_of_one_picture_a_class_is_undefined() -> None:
    """There is no pair to look at."""
    assert diversity(LabelledSet(unit(4, 3), torch.arange(4))) is None


def test_no_spread_is_zero() -> None:
    """Copies have diversity 0 and rank 0, single-precision round-off included."""
    one = unit(2, 64).float().repeat_interleave(3, dim=0)
    rows = LabelledSet((one * (1 + 1e-7)).double(), torch.tensor([0, 0, 0, 1, 1, 1]))
    assert diversity(rows) == pytest.approx(0, abs=1e-12)
    assert effective_rank(rows) == 0


@pytest.mark.parametrize("directions", [1, 3, 6])
def test_effective_rank_counts_equal_directions(directions: int) -> None:
    """Equal spread along r orthogonal directions around each class's mean has rank r."""
    axes = torch.eye(8, dtype=torch.float64)[:directions]
    around = torch.cat([axes, -axes])
    features = torch.cat([5 * unit(1, 8, seed=c) + around for c in range(2)])
    labels = torch.arange(2).repeat_interleave(len(around))
    assert effective_rank(LabelledSet(features, labels)) == pytest.approx(directions)


@pytest.mark.parametrize(("per_class", "d"), [(4, 30), (20, 6)])
def test_effective_rank_equals_the_singular_values(per_class: int, d: int) -> None:
    """The entropy of the squared singular values of the centred rows, whichever side is longer."""
    features, labels = clustered(unit(3, d), per_class)
    centred = torch.cat([features[labels == c] - features[labels == c].mean(0) for c in range(3)])
    energy = torch.linalg.svdvals(centred) ** 2
    p = (energy / energy.sum())[energy > 1e-20]
    expected = float((-(p * p.log()).sum()).exp())
    assert effective_rank(LabelledSet(features, labels)) == pytest.approx(expected)
