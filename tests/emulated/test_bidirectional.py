"""Methods that learn prompts, on the device, with a text encoder without a causal mask."""

import pytest

from ship.clip import FrozenCLIP
from ship.finetuners import FINETUNERS
from ship.subsets import FeatureSet
from ship.trial import run_trial
from ship.trial_config import TrialConfig
from tests.emulated import EmulatedDevice
from tests.emulated.test_trials import collect_numbers, make_settings
from tests.emulated.test_waiting import ProtocolBench
from tests.ship.conftest import build_clip, build_features

PROMPT_METHODS = [name for name, config in FINETUNERS.items() if "n_ctx" in config.model_fields]


@pytest.fixture(scope="module")
def host_clip() -> FrozenCLIP:
    """A tiny CLIP without a causal mask on the CPU."""
    return build_clip(layers=2, bidirectional=True)


@pytest.fixture(scope="module")
def device_clip(device: EmulatedDevice) -> FrozenCLIP:
    """The same CLIP on the device."""
    return build_clip(layers=2, bidirectional=True, device=device.name)


@pytest.fixture(scope="module")
def features(host_clip: FrozenCLIP) -> FeatureSet:
    """Features of the tiny dataset."""
    return build_features(host_clip)


@pytest.mark.parametrize("name", PROMPT_METHODS)
def test_trial_on_the_device_equals_the_cpu(
    name: str, host_clip: FrozenCLIP, device_clip: FrozenCLIP, features: FeatureSet
) -> None:
    """The generator is SHIP's VAE."""
    generator, finetuner = make_settings("generator", "vae"), make_settings("finetuner", name)
    config = TrialConfig(shots=2, quality=False, generator=generator, finetuner=finetuner)
    expected, actual = (
        collect_numbers(list(run_trial(config, (7, 2), features, clip)))
        for clip in (host_clip, device_clip)
    )
    assert actual == pytest.approx(expected, rel=2e-4, abs=2e-6)


@pytest.mark.parametrize("name", PROMPT_METHODS)
def test_steps_do_not_wait_for_the_device(
    name: str, device: EmulatedDevice, device_clip: FrozenCLIP, features: FeatureSet
) -> None:
    """After the first step, EOT positions are cached on the device."""
    finetuner = ProtocolBench(device_clip, features, "base_to_new").build_finetuner(name)
    finetuner.train_epoch()
    with device.counting() as counts:
        finetuner.train_epoch()
    assert counts.n_launches and not counts.syncs
