"""Clusters that lose a node, and get one: no setting fails for it."""

from collections.abc import Callable

import pytest

from harness.config.study_config import StudyConfig
from tests.harness.cluster_driver import study
from tests.harness.conftest import Bench, OnCluster
from tests.harness.same_table import assert_same_table

pytestmark = pytest.mark.faults


def test_a_raylet_is_killed_and_a_node_is_added(
    bench: Bench, calm: Callable[[StudyConfig], str], cluster: OnCluster
) -> None:
    """kill -9 of the raylet under a trial: it runs again elsewhere, and is not counted."""
    found, told = cluster("lose")
    assert found == {"done": 6, "complete": True}, told
    reasons = [
        run.data.tags["ship.reason"]
        for run in bench.trials()
        if run.data.tags["ship.state"] == "INTERRUPTED"
    ]
    assert any("its node was lost" in reason for reason in reasons), reasons
    assert "FAIL" not in bench.states()
    bench.check_invariants()
    assert_same_table(bench.uri, calm(study()))
