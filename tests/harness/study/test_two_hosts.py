"""Two drivers that share only a store, like drivers on two hosts."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.store.lease import read_owner
from tests.harness.conftest import Bench
from tests.harness.study.drivers import IN_PROCESS, Driver, check_interrupted, wait_for

StartOnHost = Callable[..., Driver]
# Seconds per epoch: the first driver's trial is running when the second driver starts.
LONG_EPOCH = 5.0


@pytest.fixture
def start_on_host(start_driver: Callable[..., Driver], tmp_path: Path) -> StartOnHost:
    """Return a function that starts a driver on a host."""

    def start(host: str, seconds: float, expiry: float, beat: float = 0.5) -> Driver:
        folder = tmp_path / host
        folder.mkdir(exist_ok=True)
        return start_driver(
            seconds,
            TMPDIR=str(folder),
            SHIP_TEST_BEAT=str(beat),
            SHIP_TEST_EXPIRY=str(expiry),
            fault=IN_PROCESS,
        )

    return start


@pytest.mark.weekly
def test_second_host_is_refused(bench: Bench, start_on_host: StartOnHost) -> None:
    """It reads heartbeats, its error names the first driver, and it changes nothing."""
    first = start_on_host("a", LONG_EPOCH, 60)
    wait_for(lambda: bool(bench.list_started()))
    code, output = start_on_host("b", 0.0, 60).end()
    assert code != 0
    assert f"is already being run by process {first.process.pid} on host " in output
    assert "waiting up to 60 s to see whether it is still running" in output
    first.process.terminate()
    check_interrupted(first, bench)
    store = bench.open_store()
    assert read_owner(store.client, str(store.find_experiment("small"))) is None


@pytest.mark.faults
def test_suspended_host_is_replaced(bench: Bench, start_on_host: StartOnHost) -> None:
    """The study continues on the other host. The suspended one writes nothing more."""
    first = start_on_host("a", LONG_EPOCH, 3, beat=600)
    # A driver that is stopped during a request completes it when it continues, but begins no other
    # one. It is therefore stopped between requests: in the middle of an epoch, without heartbeats.
    wait_for(lambda: len(bench.list_started()) == 2 and bench.list_states() == ["RUNNING"])
    wait_until_unchanged(bench, 2.0)
    first.process.send_signal(signal.SIGSTOP)
    code, output = start_on_host("b", 0.0, 3).end()
    assert code == 0, output
    assert f"process {first.process.pid} on host " in output
    assert "for 3 s: taking over the study" in output
    assert bench.list_states().count("COMPLETE") == 4
    before = read_runs(bench)
    first.process.send_signal(signal.SIGCONT)
    code, output = first.end()
    assert code == 3, output
    assert "study 'small' was taken over by" in output
    assert "Traceback" not in output
    wait_for(lambda: not first.list_survivors(), 20)
    assert read_runs(bench) == before
    bench.check_invariants()


def wait_until_unchanged(bench: Bench, seconds: float) -> None:
    """Wait until the store's runs have not changed for some seconds."""
    runs, changed = read_runs(bench), time.monotonic()
    while time.monotonic() - changed < seconds:
        time.sleep(0.2)
        new_runs = read_runs(bench)
        if new_runs != runs:
            runs, changed = new_runs, time.monotonic()


def read_runs(bench: Bench) -> list[Any]:
    """Return all data of the study's runs."""
    return [run.to_dictionary() for run in bench.list_runs()]
