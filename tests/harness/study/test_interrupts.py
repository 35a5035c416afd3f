"""Ctrl-C, SIGTERM and kill -9 of a study's own process, and the run after it."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.study.interrupts import HARD_EXIT, Interrupts
from tests.harness.conftest import Bench

ROOT = Path(__file__).parents[3]
# An epoch that lasts until its worker is killed: a trial is running whenever the signal comes.
ENDLESS = 3600.0


class Driver:
    """A study that runs in a process group of its own; every descendant is marked."""

    def __init__(
        self,
        bench: Bench,
        seconds: float,
        name: str = "small",
        fault: Mapping[str, Any] | None = None,
        **environment: str,
    ) -> None:
        self.mark = uuid.uuid4().hex
        paths = [bench.uri, str(bench.log), str(bench.cache), str(seconds)]
        paths.append(json.dumps({"study": {"name": name}, **(fault or {})}))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.driver", *paths],
            cwd=ROOT,
            env={**os.environ, "SHIP_TEST_MARK": self.mark, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def signal_group(self, number: signal.Signals) -> None:
        """What a terminal does on Ctrl-C."""
        os.killpg(self.process.pid, number)

    def end(self, seconds: float = 120) -> tuple[int, str]:
        """Wait; exit code and output."""
        output, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, output

    def survivors(self, *but: str) -> list[str]:
        """Command lines of descendants that are still alive, except those with a word of `but`."""
        return [line for line in marked(self.mark) if not any(word in line for word in but)]


def marked(mark: str) -> list[str]:
    """Command lines of processes whose environment holds a mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.fixture
def drive(bench: Bench) -> Iterator[Callable[..., Driver]]:
    """Starts drivers, and lets none outlive the test."""
    started: list[Driver] = []

    def start(seconds: float, **keys: Any) -> Driver:
        started.append(Driver(bench, seconds, **keys))
        return started[-1]

    yield start
    for driver in started:
        if driver.process.poll() is None:
            driver.signal_group(signal.SIGKILL)
            driver.process.wait()
        if driver.process.stdout is not None:
            driver.process.stdout.close()


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


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
    assert len(bench.lines()) - before == 2 * (4 - done)
    assert bench.states().count("COMPLETE") == 4
    bench.check_invariants()


@pytest.mark.faults
def test_sigterm_ends_in_order_and_a_second_driver_is_refused(
    bench: Bench, drive: Callable[..., Driver]
) -> None:
    """Two drivers would run the same trials, so the one that came first is named.

    SIGTERM goes to the driver alone, as from kill or docker stop: sent to the whole group it kills
    Ray's daemons too, and a driver whose daemons are gone is ended by Ray itself.
    """
    first = drive(ENDLESS)
    wait_for(lambda: bool(bench.lines()))
    code, output = drive(0.0).end()  # takes as long as a study
    assert code != 0
    assert f"is being run by process {first.process.pid}" in output
    first.process.terminate()
    check_order(first, bench)


def check_order(driver: Driver, bench: Bench) -> None:
    """A driver that was interrupted says so, and leaves runs and processes in order."""
    code, output = driver.end()
    assert code == 130, output
    assert "interrupted=True" in output
    assert "Traceback" not in output
    wait_for(lambda: not driver.survivors(), 20)  # a worker that was just starting takes a moment
    assert "INTERRUPTED" in bench.states()
    assert bench.parent().info.status == "KILLED"
    bench.check_invariants()


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


def test_a_signal_is_only_noted_while_deferred() -> None:
    """check() raises where it is asked to."""
    with Interrupts() as interrupts:
        with interrupts.deferred():
            signal.raise_signal(signal.SIGTERM)
        assert interrupts.requested
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_a_signal_raises_at_once_elsewhere() -> None:
    """And the handlers of before come back."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


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
