"""Training steps against the plain loop's, and the trial that they make."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.finetuners.coop import CoOp, CoOpConfig
from ship.generators.prompt_vae import PromptVAEConfig, build_prompt_vae
from ship.generators.vae import VAE
from ship.protocols import Protocol, base_to_new
from ship.synthesis import Synthesizer, SyntheticConfig
from ship.tasks.task import Task
from ship.trial_config import TrialConfig
from tests.bench.naive import NaiveTrial

NAMES = ("cat", "red fire truck", "hot air balloon", "ice", "sea lion", "bicycle", "man in suit")
VIEWS = 2
PAPER_EPOCHS = (50, 200)  # generator, CoOp
TESTED, CHECKED = 10, 2  # test and validation pictures of a class


@dataclass(frozen=True)
class Sizes:
    """What a step is measured at; latent and hidden sizes are the reference code's.

    coop_batch: real pictures of a CoOp step; 32, CoOp's own, which earlier figures were measured
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


@dataclass(frozen=True)
class Comparison:
    """Median seconds of a plain and a fast way, and the median of their pairwise ratios.

    target: the ratio that is wanted; None: none was set.
    """

    name: str
    plain_s: float
    fast_s: float
    ratio: float
    target: float | None = None


def compare(
    name: str, plain: Callable[[], object], fast: Callable[[], object], repeats: int
) -> Comparison:
    """Time both in turn, after one warm-up each, so that a drifting machine touches both alike."""
    plain(), fast()
    pairs = [(seconds(plain), seconds(fast)) for _ in range(repeats)]
    return Comparison(
        name,
        statistics.median(p for p, _ in pairs),
        statistics.median(f for _, f in pairs),
        statistics.median(p / f for p, f in pairs),
    )


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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
        self.protocol: Protocol = base_to_new(config, self.seeds, features, {}, clip, torch.float32)
        self.task: Task = self.protocol.finals[0].task
        generator = PromptVAEConfig.model_validate(sizes.generator())
        self.vae: VAE = build_prompt_vae(generator, self.task, clip, self.seeds)
        synthesizer = Synthesizer(SyntheticConfig(), self.vae, self.task, self.seeds)
        coop = CoOpConfig(n_ctx=sizes.n_ctx, batch_size=sizes.coop_batch)
        self.coop = CoOp(coop, self.task, synthesizer, clip, self.seeds)
        self.coop._descent._steps = 1  # an epoch of one step

    def generator_step(self) -> None:
        """Forward, backward, AdamW."""
        self.vae._step(*self.vae._batch(), kl_weight=1.0)

    def coop_step(self) -> None:
        """Synthesis, forward, backward, SGD."""
        self.coop.train_epoch()


def against_naive(clip: FrozenCLIP, sizes: Sizes, repeats: int) -> Iterator[Comparison]:
    """A generator step without and with image encoding, and a CoOp step.

    The targets were set for ViT-B/16 and the generator's usual 4 contexts: a longer prompt leaves
    less of the 77 tokens to save.
    """
    ours = Steps(clip, sizes)
    naive = NaiveTrial(clip, class_names(sizes.n_classes), sizes.n_ctx, sizes.latent, sizes.hidden)
    edge = clip.image_size
    pictures = torch.randn(sizes.batch, 3, edge, edge)
    base = (sizes.n_classes + 1) // 2
    labels = torch.randint(base, (sizes.batch,)).tolist()
    features = naive.encode_images(pictures[:1]).expand(sizes.batch, -1).contiguous()
    few = sizes.coop_batch
    where = f"{clip.name}, {sizes.n_classes} classes, n_ctx {sizes.n_ctx}"

    def coop_with_pictures() -> None:
        naive.coop_step(naive.encode_images(pictures[:few]), labels[:few])

    def generator_with_pictures() -> None:
        naive.generator_step(naive.encode_images(pictures), labels)

    def generator_alone() -> None:
        naive.generator_step(features, labels)

    short = sizes.n_ctx <= 4
    rows: Sequence[tuple[str, Callable[[], None], Callable[[], None], float | None]] = (
        ("generator step, text part", generator_alone, ours.generator_step, 7.0 if short else None),
        ("generator step with its pictures", generator_with_pictures, ours.generator_step,
         15.0 if short else None),
        ("CoOp step", coop_with_pictures, ours.coop_step, 15.0 if short else 10.0),
    )  # fmt: skip
    for name, plain, fast, target in rows:
        yield replace(compare(f"{name} ({where})", plain, fast, repeats), target=target)


def trial_of_steps(
    clip: FrozenCLIP, sizes: Sizes, generator: Comparison, coop: Comparison
) -> Comparison:
    """A trial of the paper's length, which would take the plain loop days: counted, not run.

    Steps times their measured seconds, on the base classes and again on half of them to select
    (taken as half the steps for both). Ours adds every picture in all its views, encoded once;
    the plain loop's pictures are in its steps. Evaluation is left out of both.

    Args:
        generator: a step with its pictures.
        coop: a step with its pictures.
    """
    n_base = sizes.shots * ((sizes.n_classes + 1) // 2)
    steps = [
        1.5 * epochs * math.ceil(n_base / batch)
        for epochs, batch in zip(PAPER_EPOCHS, (sizes.batch, sizes.coop_batch), strict=True)
    ]
    edge = clip.image_size
    some = torch.randn(64, 3, edge, edge)
    n_pictures = sizes.n_classes * (sizes.shots * (1 + VIEWS) + CHECKED + TESTED)
    encoding = seconds(lambda: clip.encode_images(some)) / len(some) * n_pictures
    plain = steps[0] * generator.plain_s + steps[1] * coop.plain_s
    ours = steps[0] * generator.fast_s + steps[1] * coop.fast_s + encoding
    where = f"{clip.name}, {sizes.n_classes} classes, n_ctx {sizes.n_ctx}"
    epochs = " + ".join(map(str, PAPER_EPOCHS))
    name = f"trial of {epochs} epochs, counted from its steps ({where})"
    return Comparison(name, plain, ours, plain / ours, target=20.0)
