"""`resources: auto`: what is measured, and what it decides; a GPU is pretended to Ray."""

from typing import Any

import pytest

from harness.config import Resources
from harness.planning.fingerprints import Fingerprints
from harness.resources import at_once, is_unmeasured, resolved_resources
from harness.store.ledger import Ledger
from tests.harness.fakes import make_study
from tests.harness.planning.made import run_of, settings_of
from tests.told import told

CASES = told(__file__, "gpu_sharing.yaml")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_trial_takes_and_how_many_run_at_once(
    prints: Fingerprints, case: dict[str, Any]
) -> None:
    """By what there is and what was seen of trials; by the scarcer of cores and GPUs."""
    settings = settings_of(make_study(), prints)
    seen = zip(settings, case.get("seen", []), strict=False)
    ledger = Ledger(tuple(run_of(setting, (0, 1), **keys) for setting, keys in seen))
    asked, takes, there = Resources(**case["resources"]), Resources(**case["takes"]), case["there"]
    assert resolved_resources(asked, there, ledger, case.get("trials", 9)) == takes
    assert at_once(takes, there) == case["at_once"]
    assert is_unmeasured(asked, there, ledger) == case.get("unmeasured", False)
