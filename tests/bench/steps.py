"""Steps of a generator and of CoOp at sizes that are asked for, on random features."""

from dataclasses import dataclass

import numpy as np
import torch

from ship.clip import FrozenCLIP
from ship.configs.finetuners import CoOpConfig
from ship.configs.generators import PromptVAEConfig
from ship.finetuners.prompts import CoOp
from ship.finetuners.tune import BatchedFinetuner
from ship.generators import Synthesizer
from ship.generators.fit import BatchedGenerator
from ship.generators.vae import PromptVAE
from ship.protocols import Protocol, build_protocol
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.trial_config import SyntheticConfig, TrialConfig

NAMES = ("cat", "red fire truck", "hot air balloon", "ice", "sea lion", "bicycle", "man in suit")
VIEWS = 2
TESTED, CHECKED = 10, 2  # test and validation images of a class


@dataclass(frozen=True)
class Sizes:
    """What a step is measured at; latent and hidden sizes are the reference code's.

    coop_batch: real images of a CoOp step; 32, CoOp's own, which earlier figures were measured
        at. The default, SHIP's, is 256.
    """

    n_classes: int = 100
    shots: int = 16
    batch: int = 256
    coop_batch: int = 32
    n_ctx: int = 4
    latent: int = 512
    hidden: tuple[int, int] = (2048, 4096)
    seeds: int = 1

    def generator(self) -> dict[str, int]:
        """Settings of the VAE."""
        return {
            "n_ctx": self.n_ctx,
            "latent_dim": self.latent,
            "encoder_hidden": self.hidden[0],
            "generator_hidden": self.hidden[1],
            "batch_size": self.batch,
        }


def class_names(n: int) -> list[str]:
    """Names of two to six tokens."""
    return [f"{NAMES[i % len(NAMES)]} {i}" for i in range(n)]


def random_features(clip: FrozenCLIP, sizes: Sizes) -> FeatureSet:
    """Random unit-norm features: benchmarks need shapes, not meaning."""
    rng = np.random.default_rng(0)

    def split(n: int, *views: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(sizes.n_classes), n)
        x = rng.standard_normal((len(labels), *views, clip.feature_dim)).astype(np.float32)
        return x / np.linalg.norm(x, axis=-1, keepdims=True), labels

    parts = (*split(sizes.shots, 1 + VIEWS), *split(CHECKED), *split(TESTED))
    names = tuple(class_names(sizes.n_classes))
    return FeatureSet(names, "a photo of a {}.", "random", "", clip.fingerprint, *parts)


class Steps:
    """Our generator and CoOp on a base-to-new task, a step at a time."""

    def __init__(self, clip: FrozenCLIP, sizes: Sizes) -> None:
        self.clip, self.sizes = clip, sizes
        self.seeds = range(sizes.seeds)
        config = TrialConfig(shots=sizes.shots)
        features = random_features(clip, sizes)
        self.protocol: Protocol = build_protocol(
            config, self.seeds, features, {}, clip, torch.float32
        )
        self.task: Task = self.protocol.tested_models[0][0].task
        generator = PromptVAEConfig.model_validate(sizes.generator())
        self.vae = BatchedGenerator(PromptVAE, generator, self.task, clip, self.seeds)
        synthesizer = Synthesizer(SyntheticConfig(), self.vae.sample, self.task, self.seeds)
        coop = CoOpConfig(n_ctx=sizes.n_ctx, batch_size=sizes.coop_batch)
        self.coop = BatchedFinetuner(CoOp, coop, self.task, synthesizer, clip, self.seeds)
        self.coop.steps = 1  # an epoch of one step

    def generator_step(self) -> None:
        """Forward, backward, AdamW."""
        self.vae._train_step(0)

    def coop_step(self) -> None:
        """Synthesis, forward, backward, SGD."""
        self.coop.train_epoch()
