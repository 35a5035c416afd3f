"""A trial on a device is the same trial each time."""

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

# Quality needs kthvalue, which torch refuses on CUDA for its indices; ship reads the values only.
DETERMINISTIC = {**CONFIG, "quality": False}

Pocket = Callable[[str], FrozenCLIP]


def collect_reports(clip: FrozenCLIP, features: FeatureSet) -> list[EpochMetrics]:
    """Return all reports of a trial."""
    return list(run_trial(TrialConfig.model_validate(DETERMINISTIC), SEEDS, features, clip))


@pytest.mark.usefixtures("deterministic")
def test_the_same_seeds_twice_are_equal_to_the_bit(
    device: str, pocket: Pocket, photo_features: FeatureSet
) -> None:
    """Every loss, metric and prediction, where torch allows deterministic kernels only."""
    clip = pocket(device)
    assert collect_reports(clip, photo_features) == collect_reports(clip, photo_features)


@pytest.mark.usefixtures("deterministic")
def test_a_resumed_trial_is_equal_to_the_bit(
    device: str, pocket: Pocket, photo_features: FeatureSet
) -> None:
    """A checkpoint's tensors return from the CPU to the device without a change."""
    clip, config = pocket(device), TrialConfig.model_validate(DETERMINISTIC)
    running = run_trial(config, SEEDS, photo_features, clip)
    items = [next(running) for _ in range(5)]
    checkpoint = running.checkpoint()
    items += running
    assert checkpoint is not None
    resume = Checkpoint.from_bytes(checkpoint.to_bytes())
    assert list(run_trial(config, SEEDS, photo_features, clip, resume=resume)) == items
