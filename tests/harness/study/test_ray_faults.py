"""Ray or a node dies during a study, which ends with a message or continues."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.study_config import StudyConfig
from tests.harness.cluster_driver import make_cluster_study
from tests.harness.conftest import Bench, RunOnCluster
from tests.harness.driver import make_driver_study
from tests.harness.processes import get_program, list_descendants
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import ENDLESS_SECONDS, Driver, wait_for

pytestmark = pytest.mark.faults


def find_process(driver: Driver, name: str) -> int | None:
    """Return the process of a driver's Ray that runs a program, or None before it starts."""
    # A process that it forks has the same name until it runs another program. Parents are first.
    pids = (pid for pid in list_descendants(driver.process.pid) if get_program(pid) == name)
    return next(pids, None)


def kill(driver: Driver, name: str) -> None:
    """Kill a process of a driver's Ray."""
    pid = find_process(driver, name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_dead_ray_ends_the_study_in_order(
    bench: Bench, start_driver: Callable[..., Driver]
) -> None:
    """The message names the process, no run is RUNNING, and the next run completes the study."""
    first = start_driver(ENDLESS_SECONDS)
    wait_for(lambda: bool(bench.list_started()))
    kill(first, "gcs_server")
    code, output = first.end(240)
    assert code == 3, output
    last = output.splitlines()[-1]
    assert last == "Ray has died (gcs_server, signal 9). Run the same command to resume"
    assert set(bench.list_states()) == {"INTERRUPTED"}
    bench.check_invariants()
    code, output = start_driver(0.0).end(240)
    assert code == 0, output
    assert bench.list_states().count("COMPLETE") == 4
    bench.check_invariants()


@pytest.mark.weekly
def test_sigterm_to_rays_process_does_not_end_the_study(
    bench: Bench, start_driver: Callable[..., Driver], run_undisturbed: Callable[[StudyConfig], str]
) -> None:
    """Without a workaround, it would end the driver without a message."""
    driver = start_driver(0.6)
    wait_for(lambda: bool(bench.list_started()))
    pid = find_process(driver, "raylet")
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    code, output = driver.end(240)
    assert code == 0, output
    assert bench.list_states() == ["COMPLETE"] * 4
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(make_driver_study()))


@pytest.mark.weekly
def test_ray_that_dies_at_start_is_one_line_error(
    bench: Bench, start_driver: Callable[..., Driver]
) -> None:
    """Ray raises a bare Exception half a minute later."""
    first = start_driver(0.0)
    wait_for(lambda: find_process(first, "raylet") is not None)
    kill(first, "raylet")
    code, output = first.end(240)
    assert code == 2, output
    last = output.splitlines()[-1]
    assert last.startswith("mistake: Ray did not start: ")
    bench.check_invariants()


@pytest.mark.weekly
def test_ray_without_workers_is_one_line_error(
    bench: Bench, start_driver: Callable[..., Driver], tmp_path: Path
) -> None:
    """By default Ray's core waits for a worker forever and blocks Python's threads."""
    no_worker = "import os, sys\nif any('default_worker' in a for a in sys.orig_argv): os._exit(1)"
    (tmp_path / "sitecustomize.py").write_text(no_worker, encoding="utf-8")
    code, output = start_driver(0.0, fault={"start": 20.0}, PYTHONPATH=str(tmp_path)).end(240)
    assert code == 2, output
    assert output.splitlines()[-1].startswith("mistake: Ray started no worker process within 20 s")
    assert start_driver(0.0).end(240)[0] == 0
    bench.check_invariants()


def test_trial_of_killed_raylet_is_retried_on_new_node(
    bench: Bench, run_undisturbed: Callable[[StudyConfig], str], run_on_cluster: RunOnCluster
) -> None:
    """The lost attempt is not counted as a failure."""
    result, output = run_on_cluster("lose")
    assert result == {"done": 6, "complete": True}, output
    reasons = [
        run.data.tags["ship.reason"]
        for run in bench.list_trials()
        if run.data.tags["ship.state"] == "INTERRUPTED"
    ]
    node_lost = ("its node was lost", "the connection to its worker was lost")
    assert any(reason.startswith(node_lost) for reason in reasons), reasons
    assert "FAIL" not in bench.list_states()
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(make_cluster_study()))
