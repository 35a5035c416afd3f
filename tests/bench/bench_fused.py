"""Fused seeds and settings against runs of one each: `python -m tests.bench.bench_fused`."""

from collections.abc import Iterator

import torch
from rich.console import Console

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.trial.run import run_trial
from ship.trial_config import TrialConfig
from tests.bench.bench_steps import Sizes, random_features
from tests.bench.timing import Comparison, compare


def config_of(kl_weight: float) -> TrialConfig:
    """A short trial."""
    return TrialConfig(
        shots=2,
        quality=False,
        generator={
            "name": "vae",
            "kl_weight": kl_weight,
            "latent_dim": 64,
            "encoder_hidden": 256,
            "generator_hidden": 256,
            "epochs": 2,
            "batch_size": 64,
        },
        finetuner={"name": "coop", "epochs": 2, "batch_size": 64},
    )


def fused(clip: FrozenCLIP, features: FeatureSet, seeds: int, repeats: int) -> Comparison:
    """A short trial, all seeds at once, against the same seeds one by one."""
    config = config_of(0.1)

    def solo() -> None:
        for seed in range(seeds):
            list(run_trial(config, [seed], features, clip))

    def together() -> None:
        list(run_trial(config, range(seeds), features, clip))

    return compare(f"trial, {seeds} seeds fused ({clip.name})", solo, together, repeats)


def fused_settings(
    clip: FrozenCLIP, features: FeatureSet, settings: int, seeds: int, repeats: int
) -> Comparison:
    """Settings of a study over kl_weight, all at once, against one trial each of fused seeds."""
    configs = [config_of(0.1 / (1 + i)) for i in range(settings)]

    def apart() -> None:
        for config in configs:
            list(run_trial(config, range(seeds), features, clip))

    def together() -> None:
        replicas = [config for config in configs for _ in range(seeds)]
        list(run_trial(replicas, [*range(seeds)] * settings, features, clip))

    name = f"{settings} settings of {seeds} seeds fused ({clip.name})"
    return compare(name, apart, together, repeats)


def table(repeats: int = 2) -> Iterator[tuple[int, Comparison]]:
    """(threads, comparison) on pocket, for one and two cores."""
    clip = FrozenCLIP.load("pocket")
    features = random_features(clip, Sizes(shots=2))
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for seeds in (2, 4, 8):
            yield threads, fused(clip, features, seeds, repeats)
        for settings, seeds in ((4, 1), (8, 1), (2, 5)):
            yield threads, fused_settings(clip, features, settings, seeds, repeats)
    torch.set_num_threads(before)


def main() -> None:
    """A line a comparison."""
    for threads, row in table():
        Console().print(
            f"{threads} threads: {row.name}: {row.plain_s:.2f} s apart, {row.fast_s:.2f} s fused, "
            f"{row.ratio:.2f}x",
            highlight=False,
        )


if __name__ == "__main__":
    main()
