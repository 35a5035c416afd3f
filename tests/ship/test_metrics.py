"""Predictions, and metrics against sweeps and pairwise definitions."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ship import metrics
from ship.metrics import (
    Predictions,
    harmonic_mean,
    score_base_to_new,
    score_generalized_zero_shot,
    score_open_world,
)

SEEN = torch.tensor([[True, True, False, False]])


def test_harmonic_mean() -> None:
    """H of equal values is that value, and H with a zero is 0."""
    actual = harmonic_mean(torch.tensor([60.0, 80.0, 0.0]), torch.tensor([60.0, 0.0, 0.0]))
    assert actual.tolist() == [60.0, 0.0, 0.0]


def test_score_separates_base_to_new_from_joint() -> None:
    """Base-to-new classifies within each group; joint metrics use all classes."""
    labels = torch.tensor([0, 1, 2, 3])
    logits = torch.tensor([[[5, 1, 9, 0], [1, 5, 0, 0], [9, 0, 5, 1], [0, 0, 5, 1]]]).float()
    actual = {
        name: value.item()
        for name, value in score_base_to_new(Predictions(logits, labels, SEEN), False).items()
    }
    assert (actual["base"], actual["new"]) == (100, 50)
    assert actual["harmonic_mean"] == pytest.approx(200 / 3)
    assert (actual["joint_base"], actual["joint_new"]) == (50, 0)
    assert actual["joint_harmonic_mean"] == 0


def test_predictions_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are bitwise equal; a non-finite logit affects only its seed."""
    drawn = torch.Generator().manual_seed(0)
    logits = 9 * torch.randn(2, 7, 4, generator=drawn)
    labels, seen = torch.tensor([0, 1, 2, 3, 3, 0, 1]), torch.cat([SEEN, SEEN.flip(1)])
    names = ("correct", "group_correct", "margin", "seen_log_odds", "confidence")
    together = Predictions(logits, labels, seen)
    whole = [getattr(together, name) for name in names]
    monkeypatch.setattr(metrics, "LOGITS_PER_CHUNK", 3 * logits[:, 0].numel())
    apart = Predictions(logits, labels, seen)
    assert all(map(torch.equal, whole, (getattr(apart, name) for name in names)))
    logits[1, 5, 2] = torch.nan
    assert apart.finite.tolist() == [True, False]


def stacked(
    logits: np.ndarray, labels: np.ndarray, seen: np.ndarray, constant: float
) -> tuple[float, float]:
    """Compute S and U by the shifted argmax, averaged over classes, in percent."""
    shifted = logits - constant * seen
    correct = shifted.argmax(1) == labels
    groups = []
    for group in (seen, ~seen):
        classes = [c for c in np.flatnonzero(group) if (labels == c).any()]
        groups.append(100 * np.mean([correct[labels == c].mean() for c in classes]))
    return groups[0], groups[1]


def h(s: float, u: float) -> float:
    """Harmonic mean, 0 of zeros."""
    return 2 * s * u / (s + u) if s + u else 0.0


Case = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def case() -> Case:
    """Two seeds, seven classes of unequal size, favored seen logits; class 6 has no image."""
    rng = np.random.default_rng(3)
    labels = rng.choice(6, size=60, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    seen = np.array([[1, 1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 1, 0]], dtype=bool)
    logits = rng.standard_normal((2, 60, 7)) + 1.5 * (np.arange(7) == labels[:, None])
    return logits + 0.8 * seen[:, None], labels, seen


def test_calibration_and_ausuc_equal_a_fine_sweep(case: Case) -> None:
    """No constant of the sweep has a better H; the area is a trapezoid sum."""
    logits, labels, seen = case
    actual = score_generalized_zero_shot(Predictions(*map(torch.tensor, case)), False)
    for r in range(2):
        result = {name: float(value[r]) for name, value in actual.items()}
        s, u = stacked(logits[r], labels, seen[r], 0.0)
        assert (result["seen"], result["unseen"]) == pytest.approx((s, u))
        assert result["harmonic_mean"] == pytest.approx(h(s, u))
        s, u = stacked(logits[r], labels, seen[r], result["calibration"])
        assert (result["calibrated_seen"], result["calibrated_unseen"]) == pytest.approx((s, u))
        points = [stacked(logits[r], labels, seen[r], c) for c in np.linspace(-12, 12, 24001)]
        best = max(h(*point) for point in points)
        assert result["calibrated_harmonic_mean"] == pytest.approx(max(best, h(s, u)))
        assert h(s, u) >= best - 1e-9 > result["harmonic_mean"]
        s_curve, u_curve = np.array(points).T
        area = scipy.integrate.trapezoid(s_curve, u_curve) / 100
        assert result["ausuc"] == pytest.approx(area, abs=0.05)


def test_given_calibration_constant_is_used(case: Case) -> None:
    """On test images the constant is that of selection, one per seed."""
    logits, labels, seen = case
    constants = [0.3, -1.0]
    actual = score_generalized_zero_shot(
        Predictions(*map(torch.tensor, case)), False, torch.tensor(constants)
    )
    for r, constant in enumerate(constants):
        s, u = stacked(logits[r], labels, seen[r], constant)
        assert actual["calibrated_harmonic_mean"][r] == pytest.approx(h(s, u))
    assert actual["calibration"].tolist() == pytest.approx(constants)


def test_tied_calibration_constants_choose_the_nearest_to_0() -> None:
    """Of -4, -1 and 2 it is -1."""
    labels, seen = torch.tensor([0, 2]), torch.tensor([[True, False, False]])
    logits = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 3.0, 0.0]]])
    assert score_generalized_zero_shot(Predictions(logits, labels, seen), False)[
        "calibration"
    ].tolist() == [-1.0]


ImageFile = tuple[bool, float, bool, float]  # whether base, likeness, whether right, confidence


def moved_where_wrong(images: list[ImageFile]) -> tuple[list[float], list[float]]:
    """Change scores of wrong images as OpenworldAUC's authors do.

    A wrong base image is put below all others, a wrong new image above them: in no pair of
    theirs does the base image look more like one.
    """
    base, new = ([p for p in images if p[0] is kind] for kind in (True, False))
    return [p[1] if p[2] else -1.0 for p in base], [p[1] if p[2] else 2.0 for p in new]


def roc_auc(positive: list[float], negative: list[float]) -> float:
    """Return P(a positive score is above a negative one); ties count half."""
    pairs = [(p, n) for p in positive for n in negative]
    return sum((p > n) + (p == n) / 2 for p, n in pairs) / len(pairs)


def told_by_hand(logits: Tensor, labels: Tensor, seen: Tensor) -> dict[str, float]:
    """Compute one seed's metrics in percent by loops over images and pairs."""
    base_classes = [c for c in range(len(seen)) if seen[c]]
    new_classes = [c for c in range(len(seen)) if not seen[c]]
    images = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        whole = [math.exp(value) for value in row]
        seen_log_odds = max(whole[c] for c in base_classes) / sum(whole)
        half = base_classes if label in base_classes else new_classes
        answer = max(half, key=lambda c, row=row: row[c])
        confidence = whole[answer] / sum(whole[c] for c in half)
        images.append((label in base_classes, seen_log_odds, answer == label, confidence))
    pairs = [(b, n) for b in images if b[0] for n in images if not n[0]]
    errors = {}
    for kind in (True, False):
        those = [p for p in images if p[0] is kind]
        bins: dict[int, list[float]] = {}
        for _, _, correct, confidence in those:
            bins.setdefault(math.ceil(confidence * 15), []).append(correct - confidence)
        errors[kind] = sum(abs(sum(gaps)) for gaps in bins.values()) / len(those)
    joint = [max(range(len(seen)), key=lambda c, row=row: row[c]) for row in logits.tolist()]
    return {
        "joint_accuracy": 100 * sum(map(int.__eq__, joint, labels.tolist())) / len(labels),
        "auroc": 100 * sum((b[1] > n[1]) + (b[1] == n[1]) / 2 for b, n in pairs) / len(pairs),
        "openworld_auc": 100 * roc_auc(*moved_where_wrong(images)),
        "ece_base": 100 * errors[True],
        "ece_new": 100 * errors[False],
    }


@given(seed=st.integers(0, 10**6), n=st.integers(2, 30), sharp=st.sampled_from([0.1, 1.0, 8.0]))
def test_open_world_metrics_equal_their_definitions(seed: int, n: int, sharp: float) -> None:
    """For each seed with its own logits and base classes."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(6), torch.randint(6, (n,), generator=rng)])
    logits = sharp * torch.randn(2, len(labels), 6, generator=rng, dtype=torch.float64)
    seen = torch.stack([torch.tensor([True] * 3 + [False] * 3), torch.tensor([True, False] * 3)])
    actual = score_open_world(Predictions(logits, labels, seen))
    for seed_index in range(2):
        wanted = told_by_hand(logits[seed_index], labels, seen[seed_index])
        assert {k: v[seed_index].item() for k, v in actual.items()} == pytest.approx(
            wanted, abs=1e-9
        )


def test_ties_count_half_in_openworld_auc() -> None:
    """With equal logits one pair of four is entirely correct."""
    actual = score_open_world(Predictions(torch.zeros(1, 4, 4), torch.tensor([0, 1, 2, 3]), SEEN))
    assert actual["auroc"].item() == 50 and actual["openworld_auc"].item() == 12.5
