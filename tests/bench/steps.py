"""Single training steps of SHIP's VAE and of CoOp, on random features of any size."""

from dataclasses import dataclass

import numpy as np
import torch

from ship.clip import FrozenCLIP
from ship.configs.finetuners import CoOpConfig
from ship.configs.generators import PromptVAEConfig
from ship.finetuners.batched import BatchedFinetuner
from ship.finetuners.prompts import CoOp
from ship.generators import Synthesizer
from ship.generators.batched import BatchedGenerator
from ship.generators.vae import PromptVAE
from ship.protocols import Protocol, build_protocol
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.trial_config import SyntheticConfig, TrialConfig

NAMES = ("cat", "red fire truck", "hot air balloon", "ice", "sea lion", "bicycle", "man in suit")
VIEWS = 2
TEST_IMAGES, VAL_IMAGES = 10, 2  # images per class


@dataclass(frozen=True)
class Sizes:
    """Sizes of a step. The defaults of latent and hidden sizes are those of SHIP's authors.

    Attributes:
        n_classes: Number of classes.
        shots: Training images per class.
        batch: Images of a generator step.
        coop_batch: Real images of a CoOp step. The default is that of CoOp's authors, for
            comparability with earlier measurements; that of SHIP's authors is 256.
        n_ctx: Context tokens of both methods.
        latent: Size of the VAE's latent code.
        hidden: Sizes of the hidden layers of the VAE's encoder and generator.
        seeds: Number of seeds that are trained together.
    """

    n_classes: int = 100
    shots: int = 16
    batch: int = 256
    coop_batch: int = 32
    n_ctx: int = 4
    latent: int = 512
    hidden: tuple[int, int] = (2048, 4096)
    seeds: int = 1

    def generator_settings(self) -> dict[str, int]:
        """Return the settings of the VAE."""
        return {
            "n_ctx": self.n_ctx,
            "latent_dim": self.latent,
            "encoder_hidden": self.hidden[0],
            "generator_hidden": self.hidden[1],
            "batch_size": self.batch,
        }


def make_class_names(n: int) -> list[str]:
    """Return different class names of two to six tokens."""
    return [f"{NAMES[i % len(NAMES)]} {i}" for i in range(n)]


def make_random_features(clip: FrozenCLIP, sizes: Sizes) -> FeatureSet:
    """Return random unit-norm features."""
    rng = np.random.default_rng(0)

    def make_split(n_images: int, *views: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(sizes.n_classes), n_images)
        x = rng.standard_normal((len(labels), *views, clip.feature_dim)).astype(np.float32)
        return x / np.linalg.norm(x, axis=-1, keepdims=True), labels

    train, val = make_split(sizes.shots, 1 + VIEWS), make_split(VAL_IMAGES)
    arrays = (*train, *val, *make_split(TEST_IMAGES))
    names = tuple(make_class_names(sizes.n_classes))
    return FeatureSet(names, "a photo of a {}.", "random", "", clip.fingerprint, *arrays)


class Steps:
    """SHIP's VAE and CoOp on a base-to-new task, to be trained step by step."""

    def __init__(self, clip: FrozenCLIP, sizes: Sizes) -> None:
        self.clip, self.sizes = clip, sizes
        self.seeds = range(sizes.seeds)
        config = TrialConfig(shots=sizes.shots)
        features = make_random_features(clip, sizes)
        self.protocol: Protocol = build_protocol(
            config, self.seeds, features, {}, clip, torch.float32
        )
        self.task: Task = self.protocol.tested_models[0][0].task
        generator = PromptVAEConfig.model_validate(sizes.generator_settings())
        self.vae = BatchedGenerator(PromptVAE, generator, self.task, clip, self.seeds)
        synthesizer = Synthesizer(SyntheticConfig(), self.vae.sample, self.task, self.seeds)
        coop = CoOpConfig(n_ctx=sizes.n_ctx, batch_size=sizes.coop_batch)
        self.coop = BatchedFinetuner(CoOp, coop, self.task, synthesizer, clip, self.seeds)
        self.coop.steps = 1  # an epoch is one step

    def take_generator_step(self) -> None:
        """Take a step of the VAE: forward, backward, AdamW."""
        self.vae._train_step(0)

    def take_coop_step(self) -> None:
        """Take a step of CoOp: synthesis, forward, backward, SGD."""
        self.coop.train_epoch()
