"""Calibrated stacking and the seen-unseen curve, against a brute-force sweep."""

import numpy as np
import pytest
import torch

from ship.metrics.calibrated_stacking import score_one_softmax


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


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two replicas, seven classes of unequal size, seen logits favoured; class 6 has no picture."""
    rng = np.random.default_rng(3)
    labels = rng.choice(6, size=60, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    seen = np.array([[1, 1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 1, 0]], dtype=bool)
    logits = rng.standard_normal((2, 60, 7)) + 1.5 * (np.arange(7) == labels[:, None])
    return logits + 0.8 * seen[:, None], labels, seen


def test_plain_scores(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Without a constant, S and U are per-class averages of the argmax over all classes."""
    logits, labels, seen = case
    made = score_one_softmax(*map(torch.tensor, case), False)
    for r in range(2):
        s, u = by_hand(logits[r], labels, seen[r], 0.0)
        assert made["seen"][r] == pytest.approx(s) and made["unseen"][r] == pytest.approx(u)
        assert made["harmonic_mean"][r] == pytest.approx(h(s, u))


def test_the_chosen_constant_has_the_best_h(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """No constant of a fine sweep beats it, and it gives what it promises."""
    logits, labels, seen = case
    made = score_one_softmax(*map(torch.tensor, case), False)
    for r in range(2):
        s, u = by_hand(logits[r], labels, seen[r], float(made["calibration"][r]))
        assert made["calibrated_seen"][r] == pytest.approx(s)
        assert made["calibrated_unseen"][r] == pytest.approx(u)
        best = max(h(*by_hand(logits[r], labels, seen[r], c)) for c in np.linspace(-8, 8, 3201))
        assert made["calibrated_harmonic_mean"][r] == pytest.approx(max(best, h(s, u)))
        assert h(s, u) >= best - 1e-9 > made["harmonic_mean"][r]


def test_a_given_constant_is_used(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """On test pictures the constant is selection's, one a replica."""
    logits, labels, seen = case
    constants = [0.3, -1.0]
    made = score_one_softmax(*map(torch.tensor, case), False, torch.tensor(constants))
    for r, constant in enumerate(constants):
        s, u = by_hand(logits[r], labels, seen[r], constant)
        assert made["calibrated_harmonic_mean"][r] == pytest.approx(h(s, u))
    assert made["calibration"].tolist() == pytest.approx(constants)


def test_area_under_the_curve(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """The area under S over U of a fine sweep, trapezoid by trapezoid."""
    logits, labels, seen = case
    made = score_one_softmax(*map(torch.tensor, case), False)
    for r in range(2):
        points = [by_hand(logits[r], labels, seen[r], c) for c in np.linspace(-12, 12, 24001)]
        s, u = np.array(points).T
        assert made["ausuc"][r] == pytest.approx(np.trapezoid(s, u) / 100, abs=0.05)


def test_perfect_separation_has_area_100() -> None:
    """Where every picture can be right under one constant, the area is the whole square."""
    labels = torch.tensor([0, 0, 1, 2, 3])
    seen = torch.tensor([[True, True, False, False]])
    logits = 5 * torch.nn.functional.one_hot(labels, 4).double()[None]
    made = score_one_softmax(logits, labels, seen, False)
    assert made["ausuc"].tolist() == [100.0] and made["harmonic_mean"].tolist() == [100.0]
    assert made["calibration"].tolist() == [0.0]


def test_seen_alone_still_competes_with_unseen_classes() -> None:
    """An unseen class's logit on top makes a picture of a seen class wrong, as in the test."""
    labels = torch.tensor([0, 1])
    seen = torch.tensor([[True, True, False]])
    logits = torch.tensor([[[1.0, 0.0, 2.0], [0.0, 3.0, 2.0]]])
    assert score_one_softmax(logits, labels, seen, True)["seen"].tolist() == [50.0]


def test_pictures_of_seen_classes_alone_give_seen_alone() -> None:
    """base_val has no unseen pictures: nothing else is defined."""
    labels = torch.tensor([0, 1, 1])
    seen = torch.tensor([[True, True, False]])
    logits = torch.eye(3)[None, labels]
    made = score_one_softmax(logits, labels, seen, True)
    assert {k: v.tolist() for k, v in made.items()} == {"seen": [100.0]}
