"""What logits answer, and the accuracies of the base-to-new protocol."""

import pytest
import torch

from ship import metrics
from ship.metrics import Answers, harmonic_mean, score

SEEN = torch.tensor([[True, True, False, False]])


def test_harmonic_mean() -> None:
    """H of equal parts is that part, of a zero is zero."""
    made = harmonic_mean(torch.tensor([60.0, 80.0, 0.0]), torch.tensor([60.0, 0.0, 0.0]))
    assert made.tolist() == [60.0, 0.0, 0.0]


def test_score_tells_the_protocols_apart() -> None:
    """Base-to-new decides within each half; joint lets the halves compete."""
    labels = torch.tensor([0, 1, 2, 3])
    logits = torch.tensor([[[5, 1, 9, 0], [1, 5, 0, 0], [9, 0, 5, 1], [0, 0, 5, 1]]]).float()
    made = {
        name: value.item() for name, value in score(Answers(logits, labels, SEEN), False).items()
    }
    assert (made["base"], made["new"]) == (100, 50)
    assert made["harmonic_mean"] == pytest.approx(200 / 3)
    assert (made["joint_base"], made["joint_new"]) == (50, 0)
    assert made["joint_harmonic_mean"] == 0


def test_score_without_new_pictures_is_base_alone() -> None:
    """What was not measured is absent, not zero."""
    made = score(Answers(torch.eye(4)[None, :2], torch.tensor([0, 1]), SEEN), True)
    assert set(made) == {"base"}


def test_pictures_are_answered_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are looked at in one go, to the bit; one bad logit is its replica's."""
    drawn = torch.Generator().manual_seed(0)
    logits = 9 * torch.randn(2, 7, 4, generator=drawn)
    labels, seen = torch.tensor([0, 1, 2, 3, 3, 0, 1]), torch.cat([SEEN, SEEN.flip(1)])
    names = ("right", "own_right", "margin", "likeness", "confidence")
    together = Answers(logits, labels, seen)
    whole = [getattr(together, name) for name in names]
    monkeypatch.setattr(metrics, "AT_ONCE", 3 * logits[:, 0].numel())
    apart = Answers(logits, labels, seen)
    assert all(map(torch.equal, whole, (getattr(apart, name) for name in names)))
    logits[1, 5, 2] = torch.nan
    assert apart.finite.tolist() == [True, False]
