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
from tests.harness.driver import study
from tests.harness.fakes import make_study
from tests.harness.listening import descendants
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import ENDLESS, Driver, check_order, wait_for


@pytest.mark.faults
def test_interrupted_study_ends_in_order_and_resumes(
    bench: Bench, drive: Callable[..., Driver]
) -> None:
    """Nothing is RUNNING, no process remains, and the next run does only the missing work."""
    first = drive(0.6)
    wait_for(lambda: len(bench.lines()) >= 6)  # the third of four settings has begun
    first.signal_group(signal.SIGINT)
    check_order(first, bench)
    done = bench.states().count("COMPLETE")
    assert done >= 1
    before = len(bench.lines())
    code, output = drive(0.0).end()
    assert code == 0, output
    # a trial that ended as the signal came has kept its result
    assert 2 <= len(bench.lines()) - before <= 2 * (4 - done)
    assert bench.states().count("COMPLETE") == 4
    bench.check_invariants()


@pytest.mark.faults
def test_sigterm_ends_in_order_and_second_driver_is_refused(
    bench: Bench, drive: Callable[..., Driver]
) -> None:
    """SIGTERM goes only to the driver, as from kill or docker stop."""
    first = drive(ENDLESS)
    wait_for(lambda: bool(bench.lines()))
    code, output = drive(0.0).end()  # takes as long as a study
    assert code != 0
    assert f"is already being run by process {first.process.pid}" in output
    first.process.terminate()
    check_order(first, bench)


@pytest.mark.weekly
def test_sigterm_to_all_processes_ends_study_in_order(
    bench: Bench, drive: Callable[..., Driver], calm: Callable[[StudyConfig], str]
) -> None:
    """As sent by `scancel` and systemd; the next run completes the same table."""
    first = drive(ENDLESS)
    wait_for(lambda: bool(bench.lines()))
    for pid in reversed(descendants(first.process.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    check_order(first, bench)
    code, output = drive(0.0).end()
    assert code == 0, output
    bench.check_invariants()
    assert_same_table(bench.uri, calm(study()))


@pytest.mark.faults
def test_rerun_after_killed_driver_completes_study(
    bench: Bench, drive: Callable[..., Driver]
) -> None:
    """It closes runs that are RUNNING; Ray's agents take up to 75 s to end."""
    first = drive(0.6)
    wait_for(lambda: len(bench.lines()) >= 6)
    first.process.kill()
    first.process.wait()
    assert any(run.info.status == "RUNNING" for run in bench.runs())
    wait_for(lambda: not first.survivors("Agent"), 60)
    code, output = drive(0.0).end()
    assert code == 0, output
    assert "waiting" not in output  # its lease is still there, and known to be a dead one's
    assert bench.states().count("COMPLETE") == 4
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
    assert {run.info.status for run in bench.runs()} <= {"KILLED", "FINISHED"}
    bench.check_invariants()
    assert bench.run(make_study(**SMALL)).complete
    assert bench.parent().info.status == "FINISHED"
    bench.check_invariants()


@pytest.mark.weekly
def test_sigterm_between_ray_start_and_first_trial(
    bench: Bench, drive: Callable[..., Driver]
) -> None:
    """Ray has replaced the driver's handlers by then."""
    driver = drive(0.0, fault={"terminate": "harness.tuning.put_features"})
    code, output = driver.end()
    assert code == 130, output
    assert "interrupted=True" in output and "Traceback" not in output
    wait_for(lambda: not driver.survivors(), 20)
    assert bench.parent().info.status == "KILLED"
    bench.check_invariants()
