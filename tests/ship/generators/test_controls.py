"""Controls: Gaussian samples have the fitted moments, and real images are real."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.generators import GaussianTextConfig, RealImagesConfig
from ship.generators import GENERATORS, MixedWithReal, Synthesizer, build_generator
from ship.generators.batched import BatchedGenerator
from ship.generators.gaussians import (
    GaussianText,
    compute_modality_shift,
    compute_neighbor_means,
    compute_neighbor_precision,
    compute_shrunk_cholesky,
    compute_within_class_contrasts,
)
from ship.generators.source import RealImages
from ship.seeds import SeedRng
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.trial_config import SyntheticConfig
from tests.case_files import load_cases
from tests.ship.conftest import final_task, selection_task

SEEDS = [0, 1]


@pytest.mark.parametrize(("name", "settings"), load_cases(__file__, "formulas.yaml")["gaussians"])
def test_gaussian_samples_have_the_fitted_mean_and_factor(
    name: str, settings: dict[str, Any], clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """normalize(mean + L e) with the noise e and the moments of each seed and class."""
    task = selection_task(clip64, features, SEEDS, shots=3)
    control: Any = build_generator(GENERATORS[name](**settings), task, clip64, SEEDS)
    ids = task.synthetic_ids.repeat(1, 2)
    actual, noise = (
        draw(SeedRng(SEEDS, "n", dtype=torch.float64))
        for draw in (lambda rng: control.sample(ids, rng), lambda rng: rng.normal(len(ids[0]), 16))
    )
    text = task.text_features
    for r in range(2):
        images = (task.features[r, :, 0], task.labels[r], text)
        rows = compute_within_class_contrasts(*images)
        if name == "gaussian_text":
            scale = settings.get("scale", float(rows.square().mean().sqrt()))
            means, factor = text, torch.eye(16, dtype=torch.float64) * scale
        elif name == "gaussian_base":
            means = text + compute_modality_shift(*images)
            factor = compute_shrunk_cholesky(rows, settings["shrinkage"])
        else:
            views, around = task.features[r].flatten(0, 1), settings.get("center") != "mean"
            precision = compute_neighbor_precision(
                views, text[~task.seen[r]], 9, around_text=around
            )
            factor = torch.linalg.cholesky(torch.linalg.inv(precision))
            means = compute_neighbor_means(views, text, 9, settings.get("text_copies", 16))
        x = means[ids[r]] + noise[r] @ factor.T
        torch.testing.assert_close(actual[r], x / x.norm(dim=1, keepdim=True), atol=1e-9, rtol=0)


def test_real_images_repeat_only_after_all_were_used(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Each sample is a view of a few-shot image."""
    task = selection_task(clip, replace(features, train=features.train[:, :1]), SEEDS, shots=3)
    generator = RealImages(RealImagesConfig(), task, clip, SEEDS)
    for times in (1, 2):
        ids = task.synthetic_ids.repeat_interleave(3 * times, dim=1)
        actual = generator.sample(ids, SeedRng(SEEDS, "n"))
        for r in range(2):
            rows, counts = actual[r].unique(dim=0, return_counts=True)
            assert len(rows) == 6 and counts.tolist() == [times] * 6
            for row, label in zip(actual[r], ids[r].tolist(), strict=True):
                images = torch.tensor(features.train[features.train_labels == label, 0])
                assert bool((images == row).all(1).any())


def test_synthesizer_adds_features_of_unseen_classes(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Real rows are unchanged; a fixed set has per_class features, by default shots."""
    task = selection_task(clip, features, SEEDS)
    generator = BatchedGenerator(GaussianText, GaussianTextConfig(), task, clip, SEEDS)
    synthesizer = Synthesizer(SyntheticConfig(ratio=2.0), generator.sample, task, SEEDS)
    joined, labels, _ = synthesizer.join(task.features[:, :3, 0], task.labels[:, :3], step=0)
    assert joined.shape[:2] == labels.shape == (2, 9)
    assert torch.equal(labels[:, :3], task.labels[:, :3])
    for r in range(2):
        assert not bool(task.seen[r, labels[r, 3:]].any())
    for config, count in ((SyntheticConfig(), 2), (SyntheticConfig(per_class=5), 5)):
        _, labels = Synthesizer(config, generator.sample, task, SEEDS).sample_per_class()
        counts = torch.stack([row.bincount(minlength=4) for row in labels])
        assert torch.equal(counts, count * ~task.seen)


@pytest.mark.parametrize(("share", "n_real"), [(0.25, {1}), (0.3, {1, 2}), (0.5, {2}), (1, {4})])
def test_mixed_source_has_the_configured_share_of_real_images(
    clip: FrozenCLIP, features: FeatureSet, share: float, n_real: set[int]
) -> None:
    """Of four features per class, share * 4 are real, rounded up or down."""
    task = selection_task(clip, features, SEEDS)
    actual = BatchedGenerator(GaussianText, GaussianTextConfig(), task, clip, SEEDS)
    mixed = MixedWithReal(actual, share, task, clip, SEEDS)
    ids = task.synthetic_ids.repeat_interleave(4, dim=1)
    result, alone = (source.sample(ids, SeedRng(SEEDS, "n")) for source in (mixed, actual))
    real = torch.tensor(features.train).flatten(0, 1)
    for samples, real_samples, classes in zip(result, alone, ids, strict=True):
        is_made = (samples == real_samples).all(1)
        is_real = (samples[:, None] == real).all(2).any(1)
        assert torch.equal(is_made, ~is_real)
        assert all(int(is_real[classes == label].sum()) in n_real for label in classes.unique())


def dosed(task: Task, clip: FrozenCLIP, **settings: object) -> Tensor:
    """Sample six features of each seed's first new class, from the same views."""
    config = RealImagesConfig.model_validate({"name": "real", **settings})
    ids = task.synthetic_ids[:, :1].repeat(1, 6)
    return RealImages(config, task, clip, SEEDS).sample(ids, SeedRng(SEEDS, "n"))


def test_mean_shift_and_spread_scale_equal_the_formula(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """(1 - d) m + d a + s (x - m) with the mean m over images and views."""
    task = final_task(clip, features, SEEDS)
    plain = dosed(task, clip)
    assert torch.equal(
        plain, dosed(task, clip, mean_shift=0.0, spread_scale=1.0, shift_target="noise")
    )
    for dose, spread in ((0.5, 0.25), (1.0, 0.0)):
        result = dosed(task, clip, mean_shift=dose, spread_scale=spread)
        for seed_index in range(2):
            label = int(task.synthetic_ids[seed_index, 0])
            images = task.load_unseen()[seed_index]
            mean = images.features[images.labels == label].flatten(0, 1).mean(0)
            actual = (1 - dose) * mean + dose * task.text_features[label]
            actual = actual + spread * (plain[seed_index] - mean)
            torch.testing.assert_close(
                result[seed_index], actual / actual.norm(dim=-1, keepdim=True)
            )
    noise = dosed(task, clip, mean_shift=1.0, spread_scale=0.0, shift_target="noise")
    assert torch.equal(noise[:, :1].expand_as(noise), noise)
    assert not torch.allclose(noise[0], noise[1])
    assert not torch.allclose(noise[0], result[0], atol=0.3)
