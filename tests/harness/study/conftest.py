"""Studies in processes of their own, none of which outlives its test."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.conftest import Bench
from tests.harness.study.drivers import Driver


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
