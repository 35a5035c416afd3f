"""The project's own methods keep the contract that plugins are checked for."""

from collections.abc import Mapping
from typing import Any

import pytest

from ship.clip.frozen_clip import FrozenCLIP
from ship.configs import FINETUNERS, GENERATORS
from ship.testing import (
    FINETUNER_CHECKS,
    GENERATOR_CHECKS,
    Bench,
    check_finetuner,
    check_generator,
)
from tests.ship.conftest import build_features
from tests.ship.finetuners.cases import FAST
from tests.ship.generators.cases import CASES


@pytest.fixture(scope="module")
def bench(clip64: FrozenCLIP) -> Bench:
    """The tiny backbone."""
    return Bench(clip64, build_features(clip64))


@pytest.mark.parametrize("case", list(CASES))
def test_generators(case: str, bench: Bench) -> None:
    """Every promise, but that the ceiling looks at no picture of an unseen class: it is made so."""
    name, settings = CASES[case]
    found = list(check_generator(name, settings, bench))
    assert len(found) == len(GENERATOR_CHECKS)
    fails = [one.promise for one in found if not one.holds]
    assert fails == (["pictures of unseen classes never matter"] if name == "real" else []), found


@pytest.mark.parametrize("name", list(FINETUNERS))
def test_finetuners(name: str, bench: Bench) -> None:
    """Every promise, without and with synthetic features."""
    settings: Mapping[str, Any] = FAST.get(name, {})
    found = list(check_finetuner(name, settings, bench))
    assert len(found) == 2 * len(FINETUNER_CHECKS)
    assert [str(one) for one in found if not one.holds] == []


def test_every_generator_has_a_case() -> None:
    """An entry of the table cannot be left out."""
    built = {name for name, entry in GENERATORS.items() if entry.build is not None}
    assert {name for name, _ in CASES.values()} == built
