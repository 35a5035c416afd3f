"""Small settings of every generator, and tasks whose replicas differ in what they see."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.generators import GENERATORS, Generator
from ship.tasks.task import Task
from ship.testing import Bench

VAE: dict[str, Any] = {
    "latent_dim": 4,
    "encoder_hidden": 12,
    "generator_hidden": 10,
    "lr": 0.01,
    "epochs": 3,
    "batch_size": 3,
}
WGAN: dict[str, Any] = {
    "latent_dim": 4,
    "generator_hidden": 10,
    "critic_hidden": 12,
    "n_critic": 2,
    "lr": 0.01,
    "epochs": 2,
    "batch_size": 3,
}
# what is built and how; every entry of GENERATORS that builds something is here
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", VAE),
    "vae/instance_tokens": ("vae", {**VAE, "prompt": "instance_tokens", "name_position": "middle"}),
    "vae/noise": ("vae", {**VAE, "prompt": "noise", "early_stopping": 1}),
    "vae/global": ("vae", {**VAE, "prompt": "global", "ctx_init": "a photo", "early_stopping": 1}),
    "vae/fixed": ("vae", {**VAE, "prompt": "fixed", "name_position": "front"}),
    "vae/schedules": ("vae", {**VAE, "kl_warmup": 2, "free_bits": 0.01}),
    "vae/early": ("vae", {**VAE, "lr": 0.1, "epochs": 12, "kl_weight": 0.01, "early_stopping": 1}),
    "wgan": ("wgan", WGAN),
    "wgan/instance_tokens": (
        "wgan",
        {**WGAN, "prompt": "instance_tokens", "classification_weight": 0.1},
    ),
    "mlp_vae": ("mlp_vae", VAE),
    "mlp_vae/early": ("mlp_vae", {**VAE, "lr": 0.1, "epochs": 12, "early_stopping": 1}),
    "gaussian_text": ("gaussian_text", {}),
    "gaussian_base": ("gaussian_base", {}),
    "knn_gaussian": ("knn_gaussian", {"neighbours": 5}),
    "knn_gaussian/mean": ("knn_gaussian", {"neighbours": 7, "centre": "mean"}),
    "real": ("real", {}),
}
# samples of these do not depend on noise
WITHOUT_NOISE = ("vae/global", "vae/fixed")


def build(case: str, task: Task, clip: FrozenCLIP, seeds: Sequence[int]) -> Generator:
    """The case's generator, not fitted."""
    name, settings = CASES[case]
    config, builder = GENERATORS[name]
    assert builder is not None
    return builder(config(**settings), task, clip, seeds)


def fit(generator: Generator) -> list[dict[str, Tensor]]:
    """Train as a trial does; the metrics of each epoch."""
    epochs = []
    for _ in range(generator.epochs):
        epochs.append(generator.train_epoch())
        if generator.finished:
            break
    return epochs


def uneven_task(clip: FrozenCLIP, features: FeatureSet, seeds: Sequence[int]) -> Task:
    """A task in which replicas differ in classes, in training and in validation pictures."""
    return Bench(clip, features).task(seeds)
