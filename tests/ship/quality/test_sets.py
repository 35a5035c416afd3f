"""Which features are compared."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ship import quality
from ship.quality import LabelledSet, compared, even_draw, matched
from ship.quality import rank_within_class as rank_of
from tests.ship.quality.planted import generator, unit


def test_only_shared_classes_are_compared() -> None:
    """Classes of one set alone drop out of both, and of the text features; ids are renumbered."""
    text = unit(6, 4)
    made = LabelledSet(unit(4, 4, seed=1), torch.tensor([5, 1, 3, 5]))
    real = LabelledSet(unit(5, 4, seed=2), torch.tensor([5, 3, 0, 3, 3]))
    ours, theirs, texts = compared(made, real, text, generator())
    torch.testing.assert_close(texts, text[[3, 5]])
    assert ours.labels.tolist() == [1, 0, 1]
    torch.testing.assert_close(ours.features, made.features[[0, 2, 3]])
    assert theirs.labels.tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(theirs.features, real.features[[0, 1, 3, 4]])
    apart = LabelledSet(real.features, torch.full((5,), 2))
    assert len(compared(made, apart, text, generator())[2]) == 0


def test_long_sets_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each set is cut on its own, and both keep every class."""
    monkeypatch.setattr(quality, "MAX_FEATURES", 12)
    labels = torch.arange(5).repeat(10)
    long, short = LabelledSet(unit(50, 4), labels), LabelledSet(unit(8, 4), labels[:8])
    made, real, _ = compared(long, short, unit(5, 4), generator())
    assert len(made.labels) == 12 and made.counts.min() == 2 and len(real.labels) == 8


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(5, 40), st.integers(0, 9))
def test_even_draw(labels: list[int], size: int, seed: int) -> None:
    """Distinct rows, as many as asked for; no class is short while another has more to give."""
    ids = torch.tensor(labels)
    kept = even_draw(ids, size, generator(seed))
    assert kept.tolist() == sorted(set(kept.tolist())) and len(kept) == min(size, len(ids))
    before, after = ids.bincount(minlength=5), ids[kept].bincount(minlength=5)
    short = after < before
    if short.any():
        assert after[short].min() >= after.max() - 1


def test_ranks_number_the_rows_of_each_class() -> None:
    """Every class's ranks are 0, 1, 2, ...; another seed orders them differently."""
    labels = torch.tensor([2, 0, 2, 2, 0, 1] * 5)
    rank = rank_of(labels, generator())
    for c in range(3):
        mine = rank[labels == c]
        assert sorted(mine.tolist()) == list(range(len(mine)))
    assert rank.tolist() != rank_of(labels, generator(1)).tolist()


def test_matched_sets_have_equal_counts() -> None:
    """Each class is cut to the fewer; classes without two of both are left out."""
    made = LabelledSet(unit(9, 4), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2]))
    real = LabelledSet(unit(7, 4, seed=1), torch.tensor([0, 0, 1, 2, 2, 2, 2]))
    pair = matched(made, real, generator())
    assert pair[0].counts.tolist() == pair[1].counts.tolist() == [2, 0, 3]
    alone = LabelledSet(unit(3, 4), torch.arange(3))
    assert not any(len(own.labels) for own in matched(made, alone, generator()))
