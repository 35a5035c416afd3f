"""Diversity and effective rank."""

import itertools

import pytest
import torch

from ship.quality.classes import diversity, effective_rank
from ship.quality.sets import LabelledSet
from tests.ship.quality.planted import clustered, unit


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
