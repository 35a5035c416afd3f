"""Which features are compared, what is told of their classes, and planted faults."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ship import distances
from ship.distances import LabelledSet, compared, even_draw, matched, rank_within_class
from ship.quality import (
    cosines_of_means,
    cross_accuracies,
    diversity,
    effective_rank,
    flags,
    measure_quality,
)
from ship.replicas import ReplicaRng
from tests.ship.quality.planted import clustered, generator, unit

CENTRES = unit(6, 12)
TEXT = torch.nn.functional.normalize(CENTRES + 0.8 * unit(6, 12, seed=9), dim=1)
METRICS = {
    "cosine_to_mean", "cosine_to_text", "text_cosine_to_mean", "frechet", "frechet_error",
    "mmd", "mmd_error", "precision", "recall", "density", "coverage",
    "real_to_synthetic", "synthetic_to_real", "diversity", "real_diversity",
    "effective_rank", "real_effective_rank",
}  # fmt: skip
Rows = tuple[torch.Tensor, torch.Tensor]


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
    monkeypatch.setattr(distances, "MAX_FEATURES", 12)
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
    rank = rank_within_class(labels, generator())
    for c in range(3):
        mine = rank[labels == c]
        assert sorted(mine.tolist()) == list(range(len(mine)))
    assert rank.tolist() != rank_within_class(labels, generator(1)).tolist()


def test_matched_sets_have_equal_counts() -> None:
    """Each class is cut to the fewer; classes without two of both are left out."""
    made = LabelledSet(unit(9, 4), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2]))
    real = LabelledSet(unit(7, 4, seed=1), torch.tensor([0, 0, 1, 2, 2, 2, 2]))
    pair = matched(made, real, generator())
    assert pair[0].counts.tolist() == pair[1].counts.tolist() == [2, 0, 3]
    alone = LabelledSet(unit(3, 4), torch.arange(3))
    assert not any(len(own.labels) for own in matched(made, alone, generator()))


def test_cosines_equal_a_loop_over_classes() -> None:
    """Means by hand, with numpy, of five classes whose features share their centres."""
    centres = unit(5, 8)
    real, made = (LabelledSet(*clustered(centres, n, seed=n)) for n in (4, 3))
    texts = unit(5, 8)
    found = cosines_of_means(made, real, texts)
    expected = {"cosine_to_mean": [], "cosine_to_text": [], "text_cosine_to_mean": []}
    for c, text in enumerate(texts.numpy()):
        truth, mean = (own.features[own.labels == c].numpy().mean(axis=0) for own in (real, made))
        for name, pair in zip(expected, ((mean, truth), (mean, text), (text, truth)), strict=True):
            cosine = np.dot(*pair) / np.prod([np.linalg.norm(vector) for vector in pair])
            expected[name].append(float(cosine))
    assert found == pytest.approx({k: np.mean(v) for k, v in expected.items()})


def test_accuracies_tell_the_directions_apart() -> None:
    """Synthetic features of one class that lie at another class are counted, each way its own."""
    axes = torch.eye(3, dtype=torch.float64)
    real = LabelledSet(axes.repeat_interleave(2, dim=0), torch.tensor([0, 0, 1, 1, 2, 2]))
    # class 0's one feature is right; of class 1's three, two lie at 2; class 2's one is right
    made = LabelledSet(axes[[0, 1, 2, 2, 2]], torch.tensor([0, 1, 1, 1, 2]))
    accuracies = cross_accuracies(made, real)
    assert accuracies["real_to_synthetic"] == pytest.approx(60)
    assert accuracies["synthetic_to_real"] == 100


def test_diversity_equals_a_loop_over_pairs() -> None:
    """Mean over classes of the mean over pairs; a class with one picture does not count."""
    features, labels = unit(9, 5), torch.tensor([0, 0, 0, 0, 1, 2, 2, 2, 0])
    means = []
    for c in (0, 2):
        rows = features[labels == c]
        pairs = [1 - float(a @ b) for a, b in itertools.combinations(rows, 2)]
        means.append(sum(pairs) / len(pairs))
    assert diversity(LabelledSet(features, labels)) == pytest.approx(sum(means) / 2)


def test_no_spread_is_zero() -> None:
    """Copies have diversity 0 and rank 0, single-precision round-off included."""
    one = unit(2, 64).float().repeat_interleave(3, dim=0)
    rows = LabelledSet((one * (1 + 1e-7)).double(), torch.tensor([0, 0, 0, 1, 1, 1]))
    assert diversity(rows) == pytest.approx(0, abs=1e-12)
    assert effective_rank(rows) == 0


@pytest.mark.parametrize(("per_class", "d"), [(4, 30), (20, 6)])
def test_effective_rank_equals_the_singular_values(per_class: int, d: int) -> None:
    """The entropy of the squared singular values of the centred rows, whichever side is longer."""
    features, labels = clustered(unit(3, d), per_class)
    centred = torch.cat([features[labels == c] - features[labels == c].mean(0) for c in range(3)])
    energy = torch.linalg.svdvals(centred) ** 2
    p = (energy / energy.sum())[energy > 1e-20]
    expected = float((-(p * p.log()).sum()).exp())
    assert effective_rank(LabelledSet(features, labels)) == pytest.approx(expected)


def measured(made: list[Rows], real: list[Rows], seeds: list[int]) -> dict[str, torch.Tensor]:
    """measure_quality of a list of replicas."""
    return measure_quality(
        torch.stack([features for features, _ in made]),
        torch.stack([labels for _, labels in made]),
        [features for features, _ in real],
        [labels for _, labels in real],
        TEXT,
        ReplicaRng(seeds, "quality"),
    )


def made_by(seed: int, spread: float = 0.5) -> Rows:
    """Synthetic features of a seed."""
    return clustered(CENTRES, 10, spread, seed=100 + seed)


def real_of(seed: int) -> Rows:
    """Real features of a seed; their number differs."""
    return clustered(CENTRES, 8 + seed, seed=200 + seed)


def test_replicas_are_independent() -> None:
    """A replica has the values that it has alone, drawn ones included."""
    seeds = [3, 5, 8]
    fused = measured([made_by(s) for s in seeds], [real_of(s) for s in seeds], seeds)
    for row, seed in enumerate(seeds):
        alone = measured([made_by(seed)], [real_of(seed)], [seed])
        assert {name: value[row].item() for name, value in fused.items()} == {
            name: value.item() for name, value in alone.items()
        }


@pytest.mark.parametrize(
    ("flag", "spread", "shift"), [("diversity_collapse", 0.05, 0.0), ("mean_gap", 0.5, 1.5)]
)
def test_a_planted_fault_raises_its_flag_alone(flag: str, spread: float, shift: float) -> None:
    """Nearly one feature a class, at the right place, or all moved alike; in one replica of two."""
    features, labels = made_by(1, spread)
    moved = torch.nn.functional.normalize(features + shift * unit(1, 12, seed=5), dim=1)
    made = measured([made_by(0), (moved, labels)], [real_of(0), real_of(1)], [0, 1])
    expected = {"diversity_collapse": [0, 0], "mean_gap": [0, 0], flag: [0, 1]}
    assert {name: value.tolist() for name, value in flags(made).items()} == expected


def test_undefined_metrics_are_left_out_for_all() -> None:
    """One picture a class in one replica: no real spread to compare with, in any replica."""
    single = real_of(1)[0][::9], real_of(1)[1][::9]
    made = measured([made_by(0), made_by(1)], [real_of(0), single], [0, 1])
    spread = {"real_diversity", "effective_rank", "real_effective_rank"}
    assert set(made) == METRICS - spread
    assert set(flags(made)) == {"mean_gap"}


def test_very_few_pictures() -> None:
    """One class and two pictures of it have what can be had of them, and nothing that cannot."""
    made = measured(
        [(made_by(0)[0][:3], made_by(0)[1][:3])], [(real_of(0)[0][:2], real_of(0)[1][:2])], [0]
    )
    lacking = {"frechet_error", "mmd_error", "real_to_synthetic", "synthetic_to_real"}
    assert set(made) == METRICS - lacking
    assert all(math.isfinite(value.item()) for value in made.values())


def test_no_shared_class_leaves_nothing() -> None:
    """Without pictures of the synthesized classes there is nothing to measure, nor to flag."""
    features, labels = made_by(0)
    made = measured([(features[:10], labels[:10])], [(real_of(0)[0][8:], real_of(0)[1][8:])], [0])
    assert made == {} and flags(made) == {}


def test_total_collapse_is_finite() -> None:
    """One vector for everything is measured and flagged, not divided by zero; no gradient stays."""
    features, labels = made_by(0)
    one = features[:1].expand(60, -1).requires_grad_()
    made = measured([(one, labels)], [real_of(0)], [0])
    assert set(made) == METRICS and all(value.isfinite().all() for value in made.values())
    assert flags(made)["diversity_collapse"].item() == 1
    assert not any(value.requires_grad for value in made.values())
