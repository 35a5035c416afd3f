"""Quality metrics, flags for planted faults, and measure_eval_set."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.distances import LabeledSet
from ship.protocols import EvalSet, build_protocol
from ship.quality import (
    compute_cosines_of_means,
    cross_accuracies,
    diversity,
    effective_rank,
    flag_faults,
    measure_eval_set,
    measure_quality,
)
from ship.seeds import SeedRng
from ship.subsets import FeatureSet
from ship.trial_config import TrialConfig
from tests.ship.test_distances import clustered, unit

CENTERS = unit(6, 12)
TEXT = torch.nn.functional.normalize(CENTERS + 0.8 * unit(6, 12, seed=9), dim=1)
METRICS = {
    "cosine_to_mean", "cosine_to_text", "text_cosine_to_mean", "frechet", "frechet_error",
    "mmd", "mmd_error", "precision", "recall", "density", "coverage",
    "real_to_synthetic", "synthetic_to_real", "diversity", "real_diversity",
    "effective_rank", "real_effective_rank",
}  # fmt: skip
Rows = tuple[torch.Tensor, torch.Tensor]


def test_cosines_of_means_equal_a_loop_over_classes() -> None:
    """Means are computed by numpy."""
    centers = unit(5, 8)
    real, synthetic = (LabeledSet(*clustered(centers, n, seed=n)) for n in (4, 3))
    texts = unit(5, 8)
    result = compute_cosines_of_means(synthetic, real, texts)
    expected = {"cosine_to_mean": [], "cosine_to_text": [], "text_cosine_to_mean": []}
    for c, text in enumerate(texts.numpy()):
        truth, mean = (
            labeled_set.features[labeled_set.labels == c].numpy().mean(axis=0)
            for labeled_set in (real, synthetic)
        )
        for name, pair in zip(expected, ((mean, truth), (mean, text), (text, truth)), strict=True):
            cosine = np.dot(*pair) / np.prod([np.linalg.norm(vector) for vector in pair])
            expected[name].append(float(cosine))
    assert result == pytest.approx({k: np.mean(v) for k, v in expected.items()})


def test_cross_accuracies_differ_by_direction() -> None:
    """Misplaced synthetic features count differently in each direction."""
    axes = torch.eye(3, dtype=torch.float64)
    real = LabeledSet(axes.repeat_interleave(2, dim=0), torch.tensor([0, 0, 1, 1, 2, 2]))
    # class 0's one feature is right; of class 1's three, two lie at 2; class 2's one is right
    synthetic = LabeledSet(axes[[0, 1, 2, 2, 2]], torch.tensor([0, 1, 1, 1, 2]))
    accuracies = cross_accuracies(synthetic, real)
    assert accuracies["real_to_synthetic"] == pytest.approx(60)
    assert accuracies["synthetic_to_real"] == 100


def test_diversity_equals_a_loop_over_pairs() -> None:
    """Classes with one image do not count."""
    features, labels = unit(9, 5), torch.tensor([0, 0, 0, 0, 1, 2, 2, 2, 0])
    means = []
    for c in (0, 2):
        rows = features[labels == c]
        pairs = [1 - float(a @ b) for a, b in itertools.combinations(rows, 2)]
        means.append(sum(pairs) / len(pairs))
    assert diversity(LabeledSet(features, labels)) == pytest.approx(sum(means) / 2)


@pytest.mark.parametrize(("per_class", "d"), [(4, 30), (20, 6)])
def test_effective_rank_equals_the_entropy_of_singular_values(per_class: int, d: int) -> None:
    """For more rows than columns and vice versa."""
    features, labels = clustered(unit(3, d), per_class)
    centered = torch.cat([features[labels == c] - features[labels == c].mean(0) for c in range(3)])
    energy = torch.linalg.svdvals(centered) ** 2
    p = (energy / energy.sum())[energy > 1e-20]
    expected = float((-(p * p.log()).sum()).exp())
    assert effective_rank(LabeledSet(features, labels)) == pytest.approx(expected)


def measured(synthetic: list[Rows], real: list[Rows], seeds: list[int]) -> dict[str, torch.Tensor]:
    """Call measure_quality with lists of seeds."""
    return measure_quality(
        torch.stack([features for features, _ in synthetic]),
        torch.stack([labels for _, labels in synthetic]),
        [features for features, _ in real],
        [labels for _, labels in real],
        TEXT,
        SeedRng(seeds, "quality"),
    )


def made_by(seed: int, spread: float = 0.5) -> Rows:
    """Draw synthetic features of a seed."""
    return clustered(CENTERS, 10, spread, seed=100 + seed)


def real_of(seed: int) -> Rows:
    """Draw real features of a seed; their number depends on the seed."""
    return clustered(CENTERS, 8 + seed, seed=200 + seed)


def test_quality_of_a_seed_does_not_depend_on_other_seeds() -> None:
    """Metrics with random draws are also equal."""
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
def test_each_planted_fault_raises_only_its_flag(flag: str, spread: float, shift: float) -> None:
    """In one seed of two."""
    features, labels = made_by(1, spread)
    moved = torch.nn.functional.normalize(features + shift * unit(1, 12, seed=5), dim=1)
    metrics = measured([made_by(0), (moved, labels)], [real_of(0), real_of(1)], [0, 1])
    expected = {"diversity_collapse": [0, 0], "mean_gap": [0, 0], flag: [0, 1]}
    assert {name: value.tolist() for name, value in flag_faults(metrics).items()} == expected


def test_undefined_metrics_are_omitted_for_all_seeds() -> None:
    """One image per class in one seed leaves no real spread to compare with."""
    single = real_of(1)[0][::9], real_of(1)[1][::9]
    metrics = measured([made_by(0), made_by(1)], [real_of(0), single], [0, 1])
    spread = {"real_diversity", "effective_rank", "real_effective_rank"}
    assert set(metrics) == METRICS - spread
    assert set(flag_faults(metrics)) == {"mean_gap"}


def test_collapsed_features_have_finite_metrics_and_a_flag() -> None:
    """One vector for all classes is measured without division by zero or gradients."""
    features, labels = made_by(0)
    collapsed = features[:1].expand(60, -1).requires_grad_()
    metrics = measured([(collapsed, labels)], [real_of(0)], [0])
    assert set(metrics) == METRICS and all(value.isfinite().all() for value in metrics.values())
    assert flag_faults(metrics)["diversity_collapse"].item() == 1
    assert not any(value.requires_grad for value in metrics.values())


SEEDS = [0, 1]


class Table:
    """A generator with one feature per class, which records the requested classes."""

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self.asked: list[Tensor] = []

    def sample(self, class_ids: Tensor, rng: SeedRng) -> Tensor:
        """Rows of the table."""
        self.asked.append(class_ids)
        return self.features[class_ids]


def eval_sets(clip: FrozenCLIP, features: FeatureSet) -> list[EvalSet]:
    """The evaluation sets of selection and of the test."""
    protocol = build_protocol(TrialConfig(shots=2), SEEDS, features, {}, clip)
    return [protocol.selection, protocol.tested_models[0][0]]


def class_means(eval_set: EvalSet) -> Tensor:
    """Return the mean of each class's images."""
    labels, n_cls = eval_set.images.labels, len(eval_set.task.class_names)
    rows = [eval_set.images.features[labels == c].mean(0) for c in range(n_cls)]
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def test_measure_eval_set_recognizes_class_means(clip: FrozenCLIP, features: FeatureSet) -> None:
    """Only classes without images are synthesized; other means are flagged."""
    for eval_set in eval_sets(clip, features):
        means = class_means(eval_set)
        right, wrong, text = (
            Table(rows) for rows in (means, means.roll(1, 0), eval_set.task.text_features)
        )
        metrics = measure_eval_set(right.sample, eval_set, SEEDS)
        assert metrics["quality/recognized_by_images"].tolist() == [100.0, 100.0]
        assert bool((metrics["quality/cosine_to_mean"] > 0.999).all())
        assert metrics["flag/diversity_collapse"].tolist() == [1.0, 1.0]
        assert metrics["flag/mean_gap"].tolist() == [0.0, 0.0]
        (request,) = right.asked
        for seed_index, ids in enumerate(request):
            assert torch.equal(ids.unique(), (~eval_set.task.seen[seed_index]).nonzero()[:, 0])
        metrics = measure_eval_set(wrong.sample, eval_set, SEEDS)
        assert metrics["quality/recognized_by_images"].tolist() == [0.0, 0.0]
        assert metrics["flag/mean_gap"].tolist() == [1.0, 1.0]
        metrics = measure_eval_set(text.sample, eval_set, SEEDS)
        assert metrics["quality/recognized_by_text"].tolist() == [100.0, 100.0]
        gap = metrics["quality/text_cosine_to_mean"] - metrics["quality/cosine_to_mean"]
        assert bool((gap.abs() < 1e-6).all())


def test_non_finite_features_affect_only_their_seed(clip: FrozenCLIP, features: FeatureSet) -> None:
    """That seed has NaN in all metrics."""
    for eval_set in eval_sets(clip, features):
        means = class_means(eval_set)
        whole = measure_eval_set(Table(means).sample, eval_set, SEEDS)

        def spoilt(class_ids: Tensor, rng: SeedRng, means: Tensor = means) -> Tensor:
            metrics = means[class_ids].clone()
            metrics[0, -1, 0] = torch.nan
            return metrics

        metrics = measure_eval_set(spoilt, eval_set, SEEDS)
        assert metrics.keys() == whole.keys()
        for name, value in metrics.items():
            assert bool(value[0].isnan()) and value[1] == whole[name][1], name
