"""Drivers end after Ctrl-C, SIGTERM and kill -9, and the next run completes the study."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from harness.recording.study_run import ParentRun
from harness.study.interrupts import HARD_EXIT
from tests.harness.conftest import Bench
from tests.harness.driver import make_driver_study
from tests.harness.fakes import make_study
from tests.harness.processes import list_descendants
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import ENDLESS_SECONDS, Driver, check_interrupted, wait_for


@pytest.mark.faults
def test_interrupted_study_ends_in_order_and_resumes(
    bench: Bench, start_driver: Callable[..., Driver]
) -> None:
    """No run is RUNNING, no process remains, and the next run trains only the missing seeds."""
    first = start_driver(0.6)
    wait_for(lambda: len(bench.list_started()) >= 6)  # the third of four configurations has begun
    first.signal_group(signal.SIGINT)
    check_interrupted(first, bench)
    n_complete = bench.list_states().count("COMPLETE")
    assert n_complete >= 1
    n_started = len(bench.list_started())
    code, output = start_driver(0.0).end()
    assert code == 0, output
    # The result of a trial that ended at the time of the signal is saved.
    assert 2 <= len(bench.list_started()) - n_started <= 2 * (4 - n_complete)
    assert bench.list_states().count("COMPLETE") == 4
    bench.check_invariants()


@pytest.mark.faults
def test_sigterm_ends_in_order_and_second_driver_is_refused(
    bench: Bench, start_driver: Callable[..., Driver]
) -> None:
    """Only the driver receives SIGTERM, as with `kill` and `docker stop`."""
    first = start_driver(ENDLESS_SECONDS)
    wait_for(lambda: bool(bench.list_started()))
    code, output = start_driver(0.0).end()
    assert code != 0
    assert f"is already being run by process {first.process.pid}" in output
    first.process.terminate()
    check_interrupted(first, bench)


@pytest.mark.weekly
def test_sigterm_to_all_processes_ends_study_in_order(
    bench: Bench, start_driver: Callable[..., Driver], run_undisturbed: Callable[[StudyConfig], str]
) -> None:
    """`scancel` and systemd send it in this way. The next run completes the same table."""
    first = start_driver(ENDLESS_SECONDS)
    wait_for(lambda: bool(bench.list_started()))
    for pid in reversed(list_descendants(first.process.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    check_interrupted(first, bench)
    code, output = start_driver(0.0).end()
    assert code == 0, output
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(make_driver_study()))


@pytest.mark.faults
def test_rerun_after_killed_driver_completes_study(
    bench: Bench, start_driver: Callable[..., Driver]
) -> None:
    """The next run closes runs that are RUNNING."""
    first = start_driver(0.6)
    wait_for(lambda: len(bench.list_started()) >= 6)
    first.process.kill()
    first.process.wait()
    assert any(run.info.status == "RUNNING" for run in bench.list_runs())
    # Ray's agents take up to 75 s to end.
    wait_for(lambda: not first.list_survivors("Agent"), 60)
    code, output = start_driver(0.0).end()
    assert code == 0, output
    assert "waiting" not in output  # the lease names a process of this machine that has ended
    assert bench.list_states().count("COMPLETE") == 4
    bench.check_invariants()


def test_second_signal_exits_at_once() -> None:
    """It does so even while signals are deferred."""
    code = (
        "import signal, time\n"
        "from harness.study.interrupts import Interrupts\n"
        "with Interrupts() as i, i.defer_signals():\n"
        "    signal.raise_signal(signal.SIGINT); signal.raise_signal(signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert result.returncode == HARD_EXIT


SMALL_STUDY = {"space": {"generator.n_ctx": [4]}, "seeds": 1}


@pytest.mark.parametrize(
    ("method", "after"), [("update_trial_tags", False), ("begin", True), ("end", False)]
)
def test_interrupt_during_writes_leaves_nothing_running(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str, after: bool
) -> None:
    """The outcome is interrupted, and the next run completes the study."""
    original = getattr(ParentRun, method)

    def interrupt(self: ParentRun, *args: Any) -> Any:
        monkeypatch.setattr(ParentRun, method, original)  # only the first call is interrupted
        if not after:
            os.kill(os.getpid(), signal.SIGINT)
        result = original(self, *args)
        os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(ParentRun, method, interrupt)
    outcome = bench.run(make_study(**SMALL_STUDY))
    assert outcome.interrupted
    assert {run.info.status for run in bench.list_runs()} <= {"KILLED", "FINISHED"}
    bench.check_invariants()
    assert bench.run(make_study(**SMALL_STUDY)).complete
    assert bench.get_study_run().info.status == "FINISHED"
    bench.check_invariants()


@pytest.mark.weekly
def test_sigterm_between_ray_start_and_first_trial(
    bench: Bench, start_driver: Callable[..., Driver]
) -> None:
    """Ray replaces the driver's signal handlers when it starts."""
    driver = start_driver(0.0, fault={"terminate": "harness.tuning.put_features"})
    code, output = driver.end()
    assert code == 130, output
    assert "interrupted=True" in output and "Traceback" not in output
    wait_for(lambda: not driver.list_survivors(), 20)
    assert bench.get_study_run().info.status == "KILLED"
    bench.check_invariants()
