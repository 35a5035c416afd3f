"""A bench for checks, and the plugins of tests/third_party in the registries."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ship.clip import FrozenCLIP
from ship.configs import FINETUNERS, GENERATORS
from ship.plugins import load_plugin
from ship.registry import Origin
from ship.testing import Bench
from tests.ship.conftest import build_features

THIRD_PARTY = Path(__file__).parents[2] / "third_party"


@pytest.fixture(scope="module")
def bench(clip64: FrozenCLIP) -> Bench:
    """The tiny backbone."""
    return Bench(clip64, build_features(clip64))


@pytest.fixture
def example(restore_registries: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugins of tests/third_party in the registries, without being installed."""
    monkeypatch.syspath_prepend(str(THIRD_PARTY / "ship_example"))
    import ship_example

    origin = Origin("package ship-example", "ship-example 0.1")
    GENERATORS.add(ship_example.ResidualTextConfig, origin)
    FINETUNERS.add(ship_example.RidgeConfig, origin)
    load_plugin(THIRD_PARTY / "nearest_mean.py")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "ship_example"]:
        del sys.modules[name]
