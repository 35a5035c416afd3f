"""A trial has identical results in each run on the same device."""

from collections.abc import Callable

import pytest

from ship.clip import FrozenCLIP
from ship.state import Checkpoint
from ship.subsets import FeatureSet
from ship.trial import run_trial
from ship.trial_config import EpochMetrics, TrialConfig
from tests.gpu.conftest import CLASSES

SEEDS = (7, 2)
CONFIG = {
    "dataset": "photos",
    "max_classes": CLASSES,
    "shots": 2,
    "eval_every": 1,
    "generator": {
        "name": "vae", "latent_dim": 16, "encoder_hidden": 32, "generator_hidden": 32, "epochs": 2,
        "batch_size": 8,
    },
    "finetuner": {"name": "coop", "epochs": 2, "batch_size": 8},
}  # fmt: skip

# Quality uses kthvalue, whose indices are not deterministic on CUDA, so torch refuses it. ship uses
# only its values.
DETERMINISTIC = {**CONFIG, "quality": False}

Pocket = Callable[[str], FrozenCLIP]


def collect_reports(clip: FrozenCLIP, features: FeatureSet) -> list[EpochMetrics]:
    """Return all reports of a trial."""
    return list(run_trial(TrialConfig.model_validate(DETERMINISTIC), SEEDS, features, clip))


@pytest.mark.usefixtures("deterministic")
def test_trials_with_the_same_seeds_are_identical(
    device: str, pocket: Pocket, photo_features: FeatureSet
) -> None:
    """All losses, metrics and predictions are equal if torch uses deterministic kernels."""
    clip = pocket(device)
    assert collect_reports(clip, photo_features) == collect_reports(clip, photo_features)


@pytest.mark.usefixtures("deterministic")
def test_resumed_trial_is_identical(
    device: str, pocket: Pocket, photo_features: FeatureSet
) -> None:
    """Tensors of a checkpoint are moved from the CPU to the device unchanged."""
    clip, config = pocket(device), TrialConfig.model_validate(DETERMINISTIC)
    running = run_trial(config, SEEDS, photo_features, clip)
    items = [next(running) for _ in range(5)]
    checkpoint = running.checkpoint()
    items += running
    assert checkpoint is not None
    resume = Checkpoint.from_bytes(checkpoint.to_bytes())
    assert list(run_trial(config, SEEDS, photo_features, clip, resume=resume)) == items
