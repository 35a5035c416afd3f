"""Base pictures against new ones, and calibration: against definitions written out pair by pair."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ship.metrics import Answers, open_world

SEEN = torch.tensor([[True, True, False, False]])


def by_hand(logits: Tensor, labels: Tensor, seen: Tensor) -> dict[str, float]:
    """One replica's metrics, in percent, from loops over pictures and pairs."""
    base_classes = [c for c in range(len(seen)) if seen[c]]
    new_classes = [c for c in range(len(seen)) if not seen[c]]
    pictures = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        whole = [math.exp(value) for value in row]
        likeness = max(whole[c] for c in base_classes) / sum(whole)
        own = base_classes if label in base_classes else new_classes
        answer = max(own, key=lambda c, row=row: row[c])
        confidence = whole[answer] / sum(whole[c] for c in own)
        pictures.append((label in base_classes, likeness, answer == label, confidence))
    pairs = [(b, n) for b in pictures if b[0] for n in pictures if not n[0]]
    errors = {}
    for kind in (True, False):
        those = [p for p in pictures if p[0] is kind]
        bins: dict[int, list[float]] = {}
        for _, _, right, confidence in those:
            bins.setdefault(math.ceil(confidence * 15), []).append(right - confidence)
        errors[kind] = sum(abs(sum(gaps)) for gaps in bins.values()) / len(those)
    joint = [max(range(len(seen)), key=lambda c, row=row: row[c]) for row in logits.tolist()]
    return {
        "joint_accuracy": 100 * sum(map(int.__eq__, joint, labels.tolist())) / len(labels),
        "auroc": 100 * sum((b[1] > n[1]) + (b[1] == n[1]) / 2 for b, n in pairs) / len(pairs),
        "openworld_auc": 100 * sum(b[2] and n[2] and b[1] > n[1] for b, n in pairs) / len(pairs),
        "ece_base": 100 * errors[True],
        "ece_new": 100 * errors[False],
    }


@given(seed=st.integers(0, 10**6), n=st.integers(2, 30), sharp=st.sampled_from([0.1, 1.0, 8.0]))
def test_as_defined(seed: int, n: int, sharp: float) -> None:
    """Each replica has its own logits and its own base classes."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(6), torch.randint(6, (n,), generator=rng)])
    logits = sharp * torch.randn(2, len(labels), 6, generator=rng, dtype=torch.float64)
    seen = torch.stack([torch.tensor([True] * 3 + [False] * 3), torch.tensor([True, False] * 3)])
    made = open_world(Answers(logits, labels, seen))
    for replica in range(2):
        wanted = by_hand(logits[replica], labels, seen[replica])
        assert {k: v[replica].item() for k, v in made.items()} == pytest.approx(wanted, abs=1e-9)


def test_pictures_that_look_alike_are_half_told_apart() -> None:
    """All logits equal: chance for AUROC, nothing for what asks for more than a tie."""
    made = open_world(Answers(torch.zeros(1, 4, 4), torch.tensor([0, 1, 2, 3]), SEEN))
    assert made["auroc"].item() == 50 and made["openworld_auc"].item() == 0
