"""One emulated device per test file, and a tiny CLIP on it and on the CPU."""

from collections.abc import Iterator

import pytest

from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet
from tests.emulated import EmulatedDevice, emulated_device
from tests.ship.conftest import build_clip, build_features


@pytest.fixture(scope="module")
def device() -> Iterator[EmulatedDevice]:
    """The emulated device. Tests that use it are skipped if this torch does not support it."""
    with emulated_device() as emulated:
        yield emulated


@pytest.fixture(scope="session")
def host_clip() -> FrozenCLIP:
    """The tiny CLIP on the CPU."""
    return build_clip(layers=2)


@pytest.fixture(scope="module")
def device_clip(device: EmulatedDevice) -> FrozenCLIP:
    """The tiny CLIP on the device."""
    return build_clip(layers=2, device=device.name)


@pytest.fixture(scope="session")
def features(host_clip: FrozenCLIP) -> FeatureSet:
    """Features of the tiny dataset."""
    return build_features(host_clip)
