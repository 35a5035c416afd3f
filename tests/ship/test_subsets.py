"""Few-shot draws, pseudo-new classes, and the first classes of a feature set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ship.subsets import FeatureSet, draw_few_shot_indices, draw_pseudo_new
from tests.case_files import load_cases

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(6), [1, 3, 10, 20, 20, 20]))


def test_few_shot_draw_has_sorted_shots_per_class() -> None:
    """Small classes contribute all of their images."""
    result = draw_few_shot_indices(LABELS, 4, 0, [0, 1, 2, 5])
    assert result.dtype == np.int64
    assert np.all(np.diff(result) > 0)
    assert np.bincount(LABELS[result], minlength=6).tolist() == [1, 3, 4, 0, 0, 4]


@given(
    seed=st.integers(0, 10**9), other_classes=st.sets(st.integers(0, 5)), shots=st.integers(1, 25)
)
def test_few_shot_draw_of_a_class_ignores_other_classes(
    seed: int, other_classes: set[int], shots: int
) -> None:
    """Neither their number nor their order matters."""
    alone = draw_few_shot_indices(LABELS, shots, seed, [3])
    together = draw_few_shot_indices(LABELS, shots, seed, sorted(other_classes | {3}, reverse=True))
    assert np.array_equal(together[LABELS[together] == 3], alone)


def test_fewer_shots_are_a_subset_of_more() -> None:
    """Draws of one seed are nested; seeds differ."""
    draws = [
        set(draw_few_shot_indices(LABELS, shots, 3, range(6)).tolist()) for shots in (1, 2, 4, 8)
    ]
    assert draws[0] < draws[1] < draws[2] < draws[3]
    drawn = {tuple(draw_few_shot_indices(LABELS, 2, seed, [4]).tolist()) for seed in range(20)}
    assert len(drawn) > 15


def test_few_shot_draws_are_pinned() -> None:
    """A change would make stored results incomparable (raise RESULTS_VERSION)."""
    labels = np.repeat(np.arange(3), 10)
    assert draw_few_shot_indices(labels, 3, 0, [0, 2]).tolist() == [1, 4, 6, 21, 24, 27]
    seen, pseudo = draw_pseudo_new(range(8), 0.5, 0)
    assert pseudo.tolist() == [0, 2, 3, 6]
    assert sorted([*seen, *pseudo]) == list(range(8))


@given(
    n=st.integers(2, 60),
    fraction=st.floats(0.01, 0.99),
    seeds=st.tuples(st.integers(0, 1000), st.integers(0, 1000)),
)
def test_pseudo_new_sizes_do_not_depend_on_the_seed(
    n: int, fraction: float, seeds: tuple[int, int]
) -> None:
    """They follow from the number of classes and the fraction, and cover all classes."""
    base = np.arange(n) * 3
    splits = [draw_pseudo_new(base, fraction, seed) for seed in seeds]
    assert {len(pseudo) for _, pseudo in splits} == {len(splits[0][1])}
    for seen, pseudo in splits:
        assert sorted([*seen, *pseudo]) == base.tolist()
        assert min(len(seen), len(pseudo)) >= (2 if n >= 4 else 1)
        assert np.all(np.diff(seen) > 0)
        assert np.all(np.diff(pseudo) > 0)


def test_pseudo_new_classes_depend_on_the_seed_only() -> None:
    """The order of the base classes does not matter."""
    first, second = (draw_pseudo_new(ids, 0.5, 0)[1] for ids in (range(20), range(19, -1, -1)))
    assert np.array_equal(first, second)
    assert len({tuple(draw_pseudo_new(range(20), 0.5, s)[1]) for s in range(10)}) > 5


def seen_unseen(n_seen: int | None, n: int) -> FeatureSet:
    """n classes with one image per split; a feature is the number of its class."""
    labels = np.arange(n)
    features = np.repeat(labels[:, None], 3, axis=1).astype(np.float32)
    return FeatureSet(
        class_names=tuple("abcdefghij"[:n]),
        template="{}",
        dataset="letters",
        dataset_fingerprint="d",
        backbone_fingerprint="b",
        train=features[:, None],
        train_labels=labels,
        val=features,
        val_labels=labels,
        test=features,
        test_labels=labels,
        n_seen=n_seen,
    )


@pytest.mark.parametrize(("n_seen", "n", "names"), load_cases(__file__, "halves.yaml"))
def test_first_classes_keep_an_official_split(n_seen: int | None, n: int, names: str) -> None:
    """Half are seen and half unseen; if one kind has too few, the other fills up."""
    whole = seen_unseen(n_seen, 10)
    part = whole.first_classes(n)
    assert "".join(part.class_names) == names
    assert len(part.class_names) == n
    if n_seen is None:  # CoOp's half: the larger one
        assert (whole.n_base, part.n_base) == (5, 2) and seen_unseen(None, 7).n_base == 4
    else:
        assert part.n_seen == sum(whole.class_names.index(name) < n_seen for name in names)
        assert whole.n_base == n_seen
    for labels, features in (
        (part.train_labels, part.train[:, 0]),
        (part.val_labels, part.val),
        (part.test_labels, part.test),
    ):
        assert labels.tolist() == list(range(n))
        assert labels.dtype == np.int64
        expected = [whole.class_names.index(name) for name in names]
        assert features[:, 0].astype(int).tolist() == expected
