"""Which features are compared."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ship.quality import sets
from ship.quality.sets import LabelledSet, compared_sets, even_draw, matched_sets
from ship.quality.sets import rank_within_class as rank_of
from tests.ship.quality.planted import generator, unit


def test_only_shared_classes_are_compared() -> None:
    """Classes of one set alone drop out of both, and of the text features; ids are renumbered."""
    text = unit(6, 4)
    made = unit(4, 4, seed=1), torch.tensor([5, 1, 3, 5])
    real = unit(5, 4, seed=2), torch.tensor([5, 3, 0, 3, 3])
    compared = compared_sets(*made, *real, text, generator())
    assert compared is not None
    torch.testing.assert_close(compared.text, text[[3, 5]])
    assert compared.synthetic.labels.tolist() == [1, 0, 1]
    torch.testing.assert_close(compared.synthetic.features, made[0][[0, 2, 3]])
    assert compared.real.labels.tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(compared.real.features, real[0][[0, 1, 3, 4]])
    assert compared_sets(*made, real[0], torch.full((5,), 2), text, generator()) is None


@pytest.mark.parametrize("name", ["synthetic", "real", "text"])
def test_non_finite_features_are_refused(name: str) -> None:
    """The error says which set it is."""
    x = {key: unit(2, 4) for key in ("synthetic", "real", "text")}
    x[name][1, 2] = torch.nan
    labels = torch.arange(2)
    with pytest.raises(ValueError, match=f"{name} features must be finite"):
        compared_sets(x["synthetic"], labels, x["real"], labels, x["text"], generator())


def test_long_sets_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each set is cut on its own, and both keep every class."""
    monkeypatch.setattr(sets, "MAX_FEATURES", 12)
    labels = torch.arange(5).repeat(10)
    compared = compared_sets(unit(50, 4), labels, unit(8, 4), labels[:8], unit(5, 4), generator())
    assert compared is not None
    assert compared.synthetic.counts.tolist() != [12] and len(compared.synthetic.labels) == 12
    assert compared.synthetic.counts.min() == 2 and len(compared.real.labels) == 8


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
    pair = matched_sets(sets.ComparedSets(made, real, unit(3, 4)), generator())
    assert pair is not None
    assert pair[0].counts.tolist() == pair[1].counts.tolist() == [2, 0, 3]
    alone = LabelledSet(unit(3, 4), torch.arange(3))
    assert matched_sets(sets.ComparedSets(made, alone, unit(3, 4)), generator()) is None
