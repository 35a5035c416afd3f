"""Drivers in separate processes, none of which outlives its test."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.conftest import Bench
from tests.harness.servers import MlflowServer
from tests.harness.study.drivers import Driver
from tests.reports.conftest import chart_stub as chart_stub  # charts are not drawn


@pytest.fixture
def start_driver(bench: Bench) -> Iterator[Callable[..., Driver]]:
    """Return a function that starts drivers, which are killed after the test."""
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


@pytest.fixture
def start_server(empty_store: Path, tmp_path: Path) -> Iterator[Callable[[Path], Bench]]:
    """Return a function that starts a tracking server with a folder for files, as a bench."""
    shutil.copy(empty_store, tmp_path / "served.db")
    started: list[MlflowServer] = []

    def start(files: Path) -> Bench:
        started.append(MlflowServer(f"sqlite:///{tmp_path}/served.db", tmp_path, str(files)))
        return Bench(started[-1].uri, tmp_path / "log", tmp_path / "cache")

    yield start
    for server in started:
        server.kill()
