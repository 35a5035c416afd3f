"""Calibrated stacking and the seen-unseen curve, against a brute-force sweep."""

import numpy as np
import pytest
import torch

from ship.metrics import Answers, score_one_softmax


def by_hand(
    logits: np.ndarray, labels: np.ndarray, seen: np.ndarray, constant: float
) -> tuple[float, float]:
    """S and U: per class, the share of pictures that the shifted argmax gets right; percent."""
    shifted = logits - constant * seen
    right = shifted.argmax(1) == labels
    groups = []
    for group in (seen, ~seen):
        classes = [c for c in np.flatnonzero(group) if (labels == c).any()]
        groups.append(100 * np.mean([right[labels == c].mean() for c in classes]))
    return groups[0], groups[1]


def h(s: float, u: float) -> float:
    """Harmonic mean, 0 of zeros."""
    return 2 * s * u / (s + u) if s + u else 0.0


Case = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def case() -> Case:
    """Two replicas, seven classes of unequal size, seen logits favoured; class 6 has no picture."""
    rng = np.random.default_rng(3)
    labels = rng.choice(6, size=60, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    seen = np.array([[1, 1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 1, 0]], dtype=bool)
    logits = rng.standard_normal((2, 60, 7)) + 1.5 * (np.arange(7) == labels[:, None])
    return logits + 0.8 * seen[:, None], labels, seen


def test_scores_and_the_best_constant(case: Case) -> None:
    """Per-class averages of the argmax; no constant of a fine sweep has a better H.

    And the area under S over U of a finer one, trapezoid by trapezoid.
    """
    logits, labels, seen = case
    made = score_one_softmax(Answers(*map(torch.tensor, case)), False)
    for r in range(2):
        found = {name: float(value[r]) for name, value in made.items()}
        s, u = by_hand(logits[r], labels, seen[r], 0.0)
        assert (found["seen"], found["unseen"]) == pytest.approx((s, u))
        assert found["harmonic_mean"] == pytest.approx(h(s, u))
        s, u = by_hand(logits[r], labels, seen[r], found["calibration"])
        assert (found["calibrated_seen"], found["calibrated_unseen"]) == pytest.approx((s, u))
        points = [by_hand(logits[r], labels, seen[r], c) for c in np.linspace(-12, 12, 24001)]
        best = max(h(*point) for point in points)
        assert found["calibrated_harmonic_mean"] == pytest.approx(max(best, h(s, u)))
        assert h(s, u) >= best - 1e-9 > found["harmonic_mean"]
        s_curve, u_curve = np.array(points).T
        assert found["ausuc"] == pytest.approx(np.trapezoid(s_curve, u_curve) / 100, abs=0.05)


def test_a_given_constant_is_used(case: Case) -> None:
    """On test pictures the constant is selection's, one a replica."""
    logits, labels, seen = case
    constants = [0.3, -1.0]
    made = score_one_softmax(Answers(*map(torch.tensor, case)), False, torch.tensor(constants))
    for r, constant in enumerate(constants):
        s, u = by_hand(logits[r], labels, seen[r], constant)
        assert made["calibrated_harmonic_mean"][r] == pytest.approx(h(s, u))
    assert made["calibration"].tolist() == pytest.approx(constants)


def test_perfect_separation_needs_no_constant() -> None:
    """The area is the whole square."""
    labels = torch.tensor([0, 0, 1, 2, 3])
    seen = torch.tensor([[True, True, False, False]])
    logits = 5 * torch.nn.functional.one_hot(labels, 4).double()[None]
    made = score_one_softmax(Answers(logits, labels, seen), False)
    assert made["ausuc"].tolist() == [100.0] and made["calibration"].tolist() == [0.0]


def test_pictures_of_seen_classes_alone_give_seen_alone() -> None:
    """As in base_val; an unseen class's logit on top makes a picture wrong, as in the test."""
    labels, seen = torch.tensor([0, 1]), torch.tensor([[True, True, False]])
    logits = torch.tensor([[[1.0, 0.0, 2.0], [0.0, 3.0, 2.0]]])
    made = score_one_softmax(Answers(logits, labels, seen), True)
    assert {k: v.tolist() for k, v in made.items()} == {"seen": [50.0]}


def test_of_constants_with_one_h_the_nearest_to_0_is_chosen() -> None:
    """Of -4, -1 and 2: a picture of an unseen class that is wrong under all leaves H at 0."""
    labels, seen = torch.tensor([0, 2]), torch.tensor([[True, False, False]])
    logits = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 3.0, 0.0]]])
    assert score_one_softmax(Answers(logits, labels, seen), False)["calibration"].tolist() == [-1.0]
