"""Ctrl-C, SIGTERM and kill -9 of a study's own process, and the run after it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from harness.recording.study_run import StudyRun
from harness.study.interrupts import HARD_EXIT
from tests.harness.conftest import Bench
from tests.harness.driver import study
from tests.harness.fakes import make_study
from tests.harness.listening import descendants
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import ENDLESS, Driver, check_order, wait_for


@pytest.mark.faults
def test_an_interrupted_study_ends_in_order_and_goes_on(
    bench: Bench, drive: Callable[..., Driver]
) -> None:
    """Nothing is RUNNING, no process is left, and the next run does only what is missing."""
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
def test_sigterm_ends_in_order_and_a_second_driver_is_refused(
    bench: Bench, drive: Callable[..., Driver]
) -> None:
    """Two drivers would run the same trials, so the one that came first is named.

    SIGTERM goes to the driver alone, as from kill or docker stop.
    """
    first = drive(ENDLESS)
    wait_for(lambda: bool(bench.lines()))
    code, output = drive(0.0).end()  # takes as long as a study
    assert code != 0
    assert f"is already being run by process {first.process.pid}" in output
    first.process.terminate()
    check_order(first, bench)


@pytest.mark.weekly
def test_sigterm_to_every_process_of_a_study_ends_it_in_order(
    bench: Bench, drive: Callable[..., Driver], calm: Callable[[StudyConfig], str]
) -> None:
    """As `scancel` and systemd send it. The next run gives the table of an undisturbed study."""
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
def test_a_killed_driver_leaves_nothing_that_the_next_run_cannot_put_right(
    bench: Bench, drive: Callable[..., Driver]
) -> None:
    """kill -9 leaves runs RUNNING, which the next run closes; workers die by themselves.

    Ray's two agents take a minute to notice (measured: 45 to 75 s); they hold no core and no memory
    to speak of.
    """
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


def test_a_second_signal_exits_at_once() -> None:
    """Even where the first one is only noted."""
    code = (
        "import signal, time\n"
        "from harness.study.interrupts import Interrupts\n"
        "with Interrupts() as i, i.deferred():\n"
        "    signal.raise_signal(signal.SIGINT); signal.raise_signal(signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert done.returncode == HARD_EXIT


SMALL = {"space": {"generator.n_ctx": [4]}, "seeds": 1}


@pytest.mark.parametrize(
    ("place", "after"), [("update_run_tags", False), ("begin", True), ("end", False)]
)
def test_an_interrupt_beside_the_studys_own_writes_leaves_nothing_running(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: str, after: bool
) -> None:
    """Wherever it strikes, the outcome is an interrupt, and the next run completes the study."""
    original = getattr(StudyRun, place)

    def interrupted(self: StudyRun, *given: Any) -> Any:
        monkeypatch.setattr(StudyRun, place, original)  # once
        if not after:
            os.kill(os.getpid(), signal.SIGINT)
        found = original(self, *given)
        os.kill(os.getpid(), signal.SIGINT)
        return found

    monkeypatch.setattr(StudyRun, place, interrupted)
    outcome = bench.run(make_study(**SMALL))
    assert outcome.interrupted
    assert {run.info.status for run in bench.runs()} <= {"KILLED", "FINISHED"}
    bench.check_invariants()
    assert bench.run(make_study(**SMALL)).complete
    assert bench.parent().info.status == "FINISHED"
    bench.check_invariants()


@pytest.mark.weekly
def test_sigterm_between_the_start_of_ray_and_the_first_trial(
    bench: Bench, drive: Callable[..., Driver]
) -> None:
    """Ray has put handlers of its own in ours' place by then."""
    driver = drive(0.0, fault={"terminate": "harness.tuning.put_features"})
    code, output = driver.end()
    assert code == 130, output
    assert "interrupted=True" in output and "Traceback" not in output
    wait_for(lambda: not driver.survivors(), 20)
    assert bench.parent().info.status == "KILLED"
    bench.check_invariants()
