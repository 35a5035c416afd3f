"""Class means and nearest-mean classifiers."""

import numpy as np
import pytest
import torch

from ship.quality.classes import cosines_to_mean, cross_accuracies
from ship.quality.sets import ComparedSets, LabelledSet
from tests.ship.quality.planted import clustered, unit


def test_cosines_equal_a_loop_over_classes() -> None:
    """Means by hand, with numpy, of five classes whose features share their centres."""
    centres = unit(5, 8)
    real, made = (LabelledSet(*clustered(centres, n, seed=n)) for n in (4, 3))
    sets = ComparedSets(made, real, unit(5, 8))
    expected = {"cosine_to_mean": [], "text_cosine_to_mean": []}
    for c, text in enumerate(sets.text.numpy()):
        real = sets.real.features[sets.real.labels == c].numpy().mean(axis=0)
        made = sets.synthetic.features[sets.synthetic.labels == c].numpy().mean(axis=0)
        for name, vector in (("cosine_to_mean", made), ("text_cosine_to_mean", text)):
            cosine = vector @ real / np.linalg.norm(vector) / np.linalg.norm(real)
            expected[name].append(float(cosine))
    assert cosines_to_mean(sets) == pytest.approx({k: np.mean(v) for k, v in expected.items()})


def test_accuracies_tell_the_directions_apart() -> None:
    """Synthetic features of one class that lie at another class are counted, each way its own."""
    axes = torch.eye(3, dtype=torch.float64)
    real = LabelledSet(axes.repeat_interleave(2, dim=0), torch.tensor([0, 0, 1, 1, 2, 2]))
    # class 0's one feature is right; of class 1's three, two lie at 2; class 2's one is right
    made = LabelledSet(axes[[0, 1, 2, 2, 2]], torch.tensor([0, 1, 1, 1, 2]))
    accuracies = cross_accuracies(ComparedSets(made, real, axes))
    assert accuracies["real_to_synthetic"] == pytest.approx(60)
    assert accuracies["synthetic_to_real"] == 100


def test_a_single_class_has_no_accuracy() -> None:
    """With nothing to be confused with, 100% would say nothing."""
    rows = LabelledSet(unit(3, 4), torch.zeros(3, dtype=torch.long))
    assert cross_accuracies(ComparedSets(rows, rows, unit(1, 4))) == {}
