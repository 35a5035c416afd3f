"""Learned prompts in a tower without a causal mask equal the CPU and do not wait."""

from collections.abc import Iterator

import pytest

from ship.clip import FrozenCLIP
from ship.finetuners import FINETUNERS
from ship.subsets import FeatureSet
from ship.trial import run_trial
from ship.trial_config import TrialConfig
from tests.emulated import EmulatedDevice
from tests.emulated.test_trials import numbers, small
from tests.emulated.test_waiting import Configuration
from tests.ship.conftest import build_clip, build_features

PROMPTED = [name for name, config in FINETUNERS.items() if "n_ctx" in config.model_fields]


@pytest.fixture(scope="module")
def host() -> FrozenCLIP:
    """A tiny CLIP without a causal mask on the CPU."""
    return build_clip(layers=2, bidirectional=True)


@pytest.fixture(scope="module")
def on_device(device: EmulatedDevice) -> Iterator[FrozenCLIP]:
    """The same CLIP on the device."""
    yield build_clip(layers=2, bidirectional=True, device=device.name)


@pytest.fixture(scope="module")
def features(host: FrozenCLIP) -> FeatureSet:
    """Features of the tiny dataset."""
    return build_features(host)


@pytest.mark.parametrize("name", PROMPTED)
def test_trial_on_the_device_equals_the_cpu(
    name: str, host: FrozenCLIP, on_device: FrozenCLIP, features: FeatureSet
) -> None:
    """For every method that learns prompts, with SHIP's generator."""
    methods = {"generator": small("generator", "vae"), "finetuner": small("finetuner", name)}
    config = TrialConfig(shots=2, quality=False, **methods)
    expected, actual = (
        numbers(list(run_trial(config, (7, 2), features, clip))) for clip in (host, on_device)
    )
    assert actual == pytest.approx(expected, rel=2e-4, abs=2e-6)


@pytest.mark.parametrize("name", PROMPTED)
def test_steps_do_not_wait_for_the_device(
    name: str, device: EmulatedDevice, on_device: FrozenCLIP, features: FeatureSet
) -> None:
    """EOT positions are cached on the device after the first step."""
    finetuner = Configuration(on_device, features, "base_to_new").finetuner(name)
    finetuner.train_epoch()
    with device.counting() as counts:
        finetuner.train_epoch()
    assert counts.n_launches and not counts.syncs
