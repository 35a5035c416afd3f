"""Ctrl-C, SIGTERM and kill -9 of a driver, and the next run."""

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
    """Nothing is RUNNING, no process remains, and the next run does only the missing work."""
    first = start_driver(0.6)
    wait_for(lambda: len(bench.list_started()) >= 6)  # the third of four settings has begun
    first.signal_group(signal.SIGINT)
    check_interrupted(first, bench)
    done = bench.list_states().count("COMPLETE")
    assert done >= 1
    before = len(bench.list_started())
    code, output = start_driver(0.0).end()
    assert code == 0, output
    # a trial that ended as the signal came has kept its result
    assert 2 <= len(bench.list_started()) - before <= 2 * (4 - done)
    assert bench.list_states().count("COMPLETE") == 4
    bench.check_invariants()


@pytest.mark.faults
def test_sigterm_ends_in_order_and_second_driver_is_refused(
    bench: Bench, start_driver: Callable[..., Driver]
) -> None:
    """SIGTERM goes only to the driver, as from kill or docker stop."""
    first = start_driver(ENDLESS_SECONDS)
    wait_for(lambda: bool(bench.list_started()))
    code, output = start_driver(0.0).end()  # takes as long as a study
    assert code != 0
    assert f"is already being run by process {first.process.pid}" in output
    first.process.terminate()
    check_interrupted(first, bench)


@pytest.mark.weekly
def test_sigterm_to_all_processes_ends_study_in_order(
    bench: Bench, start_driver: Callable[..., Driver], run_undisturbed: Callable[[StudyConfig], str]
) -> None:
    """As sent by `scancel` and systemd; the next run completes the same table."""
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
    """It closes runs that are RUNNING; Ray's agents take up to 75 s to end."""
    first = start_driver(0.6)
    wait_for(lambda: len(bench.list_started()) >= 6)
    first.process.kill()
    first.process.wait()
    assert any(run.info.status == "RUNNING" for run in bench.list_runs())
    wait_for(lambda: not first.list_survivors("Agent"), 60)
    code, output = start_driver(0.0).end()
    assert code == 0, output
    assert "waiting" not in output  # its lease is still there, and known to be a dead one's
    assert bench.list_states().count("COMPLETE") == 4
    bench.check_invariants()


def test_second_signal_exits_at_once() -> None:
    """Even if the first one was only recorded."""
    code = (
        "import signal, time\n"
        "from harness.study.interrupts import Interrupts\n"
        "with Interrupts() as i, i.defer_signals():\n"
        "    signal.raise_signal(signal.SIGINT); signal.raise_signal(signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert done.returncode == HARD_EXIT


SMALL = {"space": {"generator.n_ctx": [4]}, "seeds": 1}


@pytest.mark.parametrize(
    ("place", "after"), [("update_trial_tags", False), ("begin", True), ("end", False)]
)
def test_interrupt_during_writes_leaves_nothing_running(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: str, after: bool
) -> None:
    """The outcome is interrupted, and the next run completes the study."""
    original = getattr(ParentRun, place)

    def interrupted(self: ParentRun, *args: Any) -> Any:
        monkeypatch.setattr(ParentRun, place, original)  # once
        if not after:
            os.kill(os.getpid(), signal.SIGINT)
        result = original(self, *args)
        os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(ParentRun, place, interrupted)
    outcome = bench.run(make_study(**SMALL))
    assert outcome.interrupted
    assert {run.info.status for run in bench.list_runs()} <= {"KILLED", "FINISHED"}
    bench.check_invariants()
    assert bench.run(make_study(**SMALL)).complete
    assert bench.get_study_run().info.status == "FINISHED"
    bench.check_invariants()


@pytest.mark.weekly
def test_sigterm_between_ray_start_and_first_trial(
    bench: Bench, start_driver: Callable[..., Driver]
) -> None:
    """Ray has replaced the driver's handlers by then."""
    driver = start_driver(0.0, fault={"terminate": "harness.tuning.put_features"})
    code, output = driver.end()
    assert code == 130, output
    assert "interrupted=True" in output and "Traceback" not in output
    wait_for(lambda: not driver.list_survivors(), 20)
    assert bench.get_study_run().info.status == "KILLED"
    bench.check_invariants()
