"""The controls: a text feature is a text feature, and the ceiling sees its own class's pictures."""

import torch

from ship.backbone import FrozenCLIP
from ship.features import FeatureSet
from ship.generators import GENERATORS, Generator
from ship.generators.controls import (
    GaussianText,
    GaussianTextConfig,
    RealPictures,
    RealPicturesConfig,
)
from ship.protocols import base_to_new
from ship.replicas import ReplicaRng
from ship.synthesis import Synthesizer, SyntheticConfig
from ship.task import Task
from ship.trial_config import TrialConfig

SEEDS = [0, 1]


def task_of(clip: FrozenCLIP, features: FeatureSet, selection: bool = False) -> Task:
    """The final task, or the one that selection trains on."""
    protocol = base_to_new(TrialConfig(shots=2), SEEDS, features, clip)
    assert protocol.final is not None
    return protocol.selection[0] if selection else protocol.final


def test_gaussian_text_without_noise_is_the_text_feature(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Scale 0 gives the zero-shot classifier's own rows."""
    task = task_of(clip, features)
    ids = torch.tensor([[4, 7], [5, 5]])
    made = GaussianText(GaussianTextConfig(), task, clip, SEEDS).sample(ids, ReplicaRng(SEEDS, "n"))
    assert torch.equal(made, task.text_features[ids])


def test_gaussian_text_spreads_with_its_scale(clip: FrozenCLIP, features: FeatureSet) -> None:
    """More noise, lower cosine to the text feature; always unit norm."""
    task = task_of(clip, features)
    ids = torch.full((2, 50), 6)
    cosines = []
    for scale in (0.05, 0.5):
        control = GaussianText(GaussianTextConfig(scale=scale), task, clip, SEEDS)
        made = control.sample(ids, ReplicaRng(SEEDS, "n"))
        torch.testing.assert_close(made.norm(dim=-1), torch.ones(2, 50))
        cosines.append((made @ task.text_features[6]).mean().item())
    assert 0.9 < cosines[0] < 1 and cosines[1] < cosines[0]


def test_real_pictures_are_the_few_shot_draw_of_the_class(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Every sample is a view of a training picture of its class, each replica's own split's."""
    task = task_of(clip, features, selection=True)
    ids = task.unseen_ids.repeat(1, 20)
    made = RealPictures(RealPicturesConfig(), task, clip, SEEDS).sample(ids, ReplicaRng(SEEDS, "n"))
    views = torch.tensor(features.train)
    for replica in range(2):
        for row, label in zip(made[replica], ids[replica].tolist(), strict=True):
            own = views[torch.tensor(features.train_labels) == label].flatten(0, 1)
            assert bool((own == row).all(1).any())


def test_synthetic_labels_are_unseen_classes(clip: FrozenCLIP, features: FeatureSet) -> None:
    """A joined batch keeps the real rows; the others are of each replica's unseen classes."""
    task = task_of(clip, features, selection=True)
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
    task = task_of(clip, features)
    generator = GaussianText(GaussianTextConfig(), task, clip, SEEDS)
    for config, count in ((SyntheticConfig(), 2), (SyntheticConfig(per_class=5), 5)):
        _, labels = Synthesizer(config, generator, task, SEEDS).fixed_set()
        assert labels[0].bincount().tolist() == [0, 0, 0, 0] + [count] * 4


def test_every_generator_keeps_the_contract(clip: FrozenCLIP, features: FeatureSet) -> None:
    """Each entry of the dict gives finite unit-norm features of unseen classes, and no gradient."""
    task = task_of(clip, features)
    for name, (config_class, build) in GENERATORS.items():
        if build is None:
            continue
        small = (
            {"latent_dim": 4, "encoder_hidden": 8, "generator_hidden": 8} if name == "vae" else {}
        )
        generator: Generator = build(config_class(**small), task, clip, SEEDS)
        made = generator.sample(task.unseen_ids, ReplicaRng(SEEDS, "n"))
        assert made.shape == (2, 4, 16) and not made.requires_grad
        torch.testing.assert_close(made.norm(dim=-1), torch.ones(2, 4), atol=1e-5, rtol=0)
