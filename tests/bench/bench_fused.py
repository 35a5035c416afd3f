"""Fused seeds against one run a seed."""

from ship.backbone import FrozenCLIP
from ship.features import FeatureSet
from ship.trial import run_trial
from ship.trial_config import TrialConfig
from tests.bench.timing import Comparison, compare


def fused(clip: FrozenCLIP, features: FeatureSet, seeds: int, repeats: int) -> Comparison:
    """A short trial, all seeds at once, against the same seeds one by one."""
    generator = {"name": "vae", "latent_dim": 64, "encoder_hidden": 256, "generator_hidden": 256}
    config = TrialConfig(
        shots=2,
        generator={**generator, "epochs": 2, "batch_size": 64},
        finetuner={"name": "coop", "epochs": 2, "batch_size": 64},
    )

    def solo() -> None:
        for seed in range(seeds):
            list(run_trial(config, [seed], features, clip))

    def together() -> None:
        list(run_trial(config, range(seeds), features, clip))

    return compare(f"trial, {seeds} seeds fused ({clip.name})", solo, together, repeats)
