"""Fixtures that start drivers and tracking servers, and end them after the test."""

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
    """Return a function that starts a driver, which is killed after the test."""
    drivers: list[Driver] = []

    def start(seconds: float, **keys: Any) -> Driver:
        drivers.append(Driver(bench, seconds, **keys))
        return drivers[-1]

    yield start
    for driver in drivers:
        if driver.process.poll() is None:
            driver.signal_group(signal.SIGKILL)
            driver.process.wait()
        if driver.process.stdout is not None:
            driver.process.stdout.close()


@pytest.fixture
def start_server(empty_store: Path, tmp_path: Path) -> Iterator[Callable[[Path], Bench]]:
    """Return a function that starts a tracking server, and returns a bench with it as the store.

    Its argument is the folder in which the server stores files.
    """
    shutil.copy(empty_store, tmp_path / "server.db")
    servers: list[MlflowServer] = []

    def start(files: Path) -> Bench:
        servers.append(MlflowServer(f"sqlite:///{tmp_path}/server.db", tmp_path, str(files)))
        return Bench(servers[-1].uri, tmp_path / "log", tmp_path / "cache")

    yield start
    for server in servers:
        server.kill()
