"""The controls: a text feature is a text feature, Gaussians have the moments they should."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.generators.controls import (
    GaussianBase,
    GaussianBaseConfig,
    GaussianText,
    GaussianTextConfig,
    RealPictures,
    RealPicturesConfig,
)
from ship.synthesis import Synthesizer, SyntheticConfig
from ship.tasks.task import Task
from ship.training.replicas import ReplicaRng
from tests.ship.conftest import final_task, selection_task

SEEDS = [0, 1]
PER_CLASS = 500


def planted_task(task: Task, noise: Tensor, shift: Tensor) -> Task:
    """Many pictures of the first four classes, all views alike: text + shift + noise.

    One row of class 0 stands behind them as padding that must not count.
    """
    labels = torch.arange(4).repeat_interleave(PER_CLASS).expand(2, -1)
    pictures = task.text_features[labels] + shift.unsqueeze(1) + noise
    padded = torch.cat([pictures, torch.full_like(pictures[:, :1], 100.0)], dim=1)
    return replace(
        task,
        features=padded.unsqueeze(2).expand(-1, -1, task.features.shape[2], -1),
        labels=torch.cat([labels, torch.zeros(2, 1, dtype=torch.long)], dim=1),
        counts=(4 * PER_CLASS,) * 2,
    )


def draw(*shape: int) -> Tensor:
    """Standard normal, the same at each call."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [0.0, None])
def test_gaussian_text_without_noise_is_the_text_feature(
    scale: float | None, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Scale 0 gives the zero-shot classifier's own rows; a fitted one does not."""
    task = final_task(clip, features, SEEDS)
    ids = torch.tensor([[4, 7], [5, 5]])
    control = GaussianText(GaussianTextConfig(scale=scale), task, clip, SEEDS)
    made = control.sample(ids, ReplicaRng(SEEDS, "n"))
    assert torch.equal(made, task.text_features[ids]) == (scale == 0)


def test_gaussian_text_spreads_with_its_scale(clip: FrozenCLIP, features: FeatureSet) -> None:
    """More noise, lower cosine to the text feature."""
    task = final_task(clip, features, SEEDS)
    ids = torch.full((2, 50), 6)
    cosines = []
    for scale in (0.05, 0.5):
        control = GaussianText(GaussianTextConfig(scale=scale), task, clip, SEEDS)
        made = control.sample(ids, ReplicaRng(SEEDS, "n"))
        cosines.append((made @ task.text_features[6]).mean().item())
    assert 0.9 < cosines[0] < 1 and cosines[1] < cosines[0]


def test_fitted_scale_recovers_a_planted_one(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Each replica its own, whatever the shift; within 4 standard errors, 1 / sqrt(2 n d)."""
    scales = torch.tensor([0.05, 0.2], dtype=torch.float64)
    task = planted_task(
        final_task(clip64, features, SEEDS),
        scales[:, None, None] * draw(2, 4 * PER_CLASS, 16),
        draw(2, 16),
    )
    fitted = GaussianText(GaussianTextConfig(), task, clip64, SEEDS).scale
    torch.testing.assert_close(fitted, scales, rtol=4 / (2 * 4 * PER_CLASS * 16) ** 0.5, atol=0)


def test_gaussian_base_recovers_a_planted_shift_and_covariance(
    clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Each replica its own; within 4 standard errors and Ledoit-Wolf's small shrinkage."""
    mix = 0.1 * draw(2, 16, 16)
    shift = draw(2, 16)
    noise = draw(2, 4 * PER_CLASS, 16) @ mix.mT
    task = planted_task(final_task(clip64, features, SEEDS), noise, shift)
    control = GaussianBase(GaussianBaseConfig(), task, clip64, SEEDS)
    planted = mix @ mix.mT
    n = 4 * PER_CLASS
    variance = planted.diagonal(dim1=1, dim2=2)
    assert bool(((control.shift - shift).abs() < 4 * (variance / n).sqrt()).all())
    error = (variance[:, :, None] * variance[:, None] + planted.square()).div(n).sqrt()
    found = control.factor @ control.factor.mT
    assert bool(((found - planted).abs() < 4 * error + 0.02 * variance.mean()).all())


def test_gaussian_base_samples_around_the_moved_text_feature(
    clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """normalise(text + shift + L e), e the noise; each replica with its own moments."""
    task = selection_task(clip64, features, SEEDS)
    control = GaussianBase(GaussianBaseConfig(shrinkage=0.5), task, clip64, SEEDS)
    ids = task.unseen_ids
    made = control.sample(ids, ReplicaRng(SEEDS, "n", dtype=torch.float64))
    noise = ReplicaRng(SEEDS, "n", dtype=torch.float64).normal(ids.shape[1], 16)
    for r in range(2):
        for k, class_id in enumerate(ids[r].tolist()):
            x = task.text_features[class_id] + control.shift[r] + control.factor[r] @ noise[r, k]
            torch.testing.assert_close(made[r, k], x / x.norm())
    assert not torch.allclose(control.shift[0], control.shift[1])


def test_real_pictures_are_the_few_shot_draw_of_the_class(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Every sample is a view of a training picture of its class, each replica's own split's."""
    task = selection_task(clip, features, SEEDS)
    ids = task.unseen_ids.repeat(1, 20)
    made = RealPictures(RealPicturesConfig(), task, clip, SEEDS).sample(ids, ReplicaRng(SEEDS, "n"))
    views = torch.tensor(features.train)
    for replica in range(2):
        for row, label in zip(made[replica], ids[replica].tolist(), strict=True):
            own = views[torch.tensor(features.train_labels) == label].flatten(0, 1)
            assert bool((own == row).all(1).any())


def test_synthetic_labels_are_unseen_classes(clip: FrozenCLIP, features: FeatureSet) -> None:
    """A joined batch keeps the real rows; the others are of each replica's unseen classes."""
    task = selection_task(clip, features, SEEDS)
    generator = GaussianText(GaussianTextConfig(), task, clip, SEEDS)
    synthesizer = Synthesizer(SyntheticConfig(ratio=2.0), generator, task, SEEDS)
    joined, labels, _ = synthesizer.join(task.features[:, :3, 0], task.labels[:, :3])
    assert joined.shape[:2] == labels.shape == (2, 9)
    assert torch.equal(labels[:, :3], task.labels[:, :3])
    for replica in range(2):
        assert not bool(task.seen[replica, labels[replica, 3:]].any())


def test_fixed_set_has_as_many_of_every_unseen_class(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """per_class features each; by default as many as shots."""
    task = final_task(clip, features, SEEDS)
    generator = GaussianText(GaussianTextConfig(), task, clip, SEEDS)
    for config, count in ((SyntheticConfig(), 2), (SyntheticConfig(per_class=5), 5)):
        _, labels = Synthesizer(config, generator, task, SEEDS).fixed_set()
        assert labels[0].bincount().tolist() == [0, 0, 0, 0] + [count] * 4


def test_real_pictures_come_all_before_any_comes_again(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """A fixed set of as many as shots holds each picture once; of twice as many, twice."""
    task = final_task(clip, replace(features, train=features.train[:, :1]), SEEDS, shots=3)
    generator = RealPictures(RealPicturesConfig(), task, clip, SEEDS)
    for times in (1, 2):
        ids = task.unseen_ids.repeat_interleave(3 * times, dim=1)
        made = generator.sample(ids, ReplicaRng(SEEDS, "n"))
        for replica in range(2):
            rows, counts = made[replica].unique(dim=0, return_counts=True)
            assert len(rows) == 12 and counts.tolist() == [times] * 12


def dosed(task: Task, clip: FrozenCLIP, **settings: object) -> Tensor:
    """Six features of each replica's first new class, from its pictures in the same views."""
    config = RealPicturesConfig.model_validate({"name": "real", **settings})
    ids = task.unseen_ids[:, :1].repeat(1, 6)
    return RealPictures(config, task, clip, SEEDS).sample(ids, ReplicaRng(SEEDS, "n"))


def test_a_dose_moves_the_means_and_leaves_the_deviations(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """By hand: (1 - d) m + d a + s (x - m), with the class's own mean over pictures and views."""
    task = final_task(clip, features, SEEDS)
    plain = dosed(task, clip)
    assert torch.equal(plain, dosed(task, clip, dose=0.0, spread=1.0, toward="noise"))
    half = dosed(task, clip, dose=0.5, spread=0.25)
    for replica in range(2):
        label = int(task.unseen_ids[replica, 0])
        first, n = int(task.unseen_first[replica, label]), int(task.unseen_count[replica, label])
        mean = task.unseen_features[replica, first : first + n].flatten(0, 1).mean(0)
        made = 0.5 * mean + 0.5 * task.text_features[label] + 0.25 * (plain[replica] - mean)
        torch.testing.assert_close(half[replica], made / made.norm(dim=-1, keepdim=True))


def test_the_largest_dose_leaves_nothing_of_the_class(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Without spread it is the text feature, or one random direction for each replica and class."""
    task = final_task(clip, features, SEEDS)
    text = dosed(task, clip, dose=1.0, spread=0.0)
    torch.testing.assert_close(text, task.text_features[task.unseen_ids[:, :1].repeat(1, 6)])
    noise = dosed(task, clip, dose=1.0, spread=0.0, toward="noise")
    assert torch.equal(noise[:, :1].expand_as(noise), noise)
    assert not torch.allclose(noise[0], noise[1])
    assert not torch.allclose(noise[0], text[0], atol=0.3)
