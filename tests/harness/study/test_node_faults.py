"""Clusters that lose a node, and get one: no setting fails for it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.study_config import StudyConfig
from tests.harness.conftest import Bench
from tests.harness.node_driver import study
from tests.harness.same_table import assert_same_table

pytestmark = pytest.mark.faults


def test_a_raylet_is_killed_and_a_node_is_added(
    bench: Bench, calm: Callable[[StudyConfig], str], ray_folder: Path
) -> None:
    """kill -9 of the raylet under a trial: it runs again elsewhere, and is not counted."""
    command = [sys.executable, "-m", "tests.harness.node_driver"]
    paths = [bench.uri, str(bench.log), str(bench.cache)]
    env = {**os.environ, "RAY_TMPDIR": str(ray_folder)}
    done = subprocess.run([*command, *paths], env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"done": 6, "complete": True, "lost": True, "added": True}, done.stderr
    reasons = [
        run.data.tags["ship.reason"]
        for run in bench.trials()
        if run.data.tags["ship.state"] == "INTERRUPTED"
    ]
    assert any("its node was lost" in reason for reason in reasons), reasons
    assert "FAIL" not in bench.states()
    bench.check_invariants()
    assert_same_table(bench.uri, calm(study()))
