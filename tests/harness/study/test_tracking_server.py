"""`mlflow server` or its PostgreSQL is killed during a study."""

import io
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from rich.console import Console

from harness.config.study_config import StudyConfig
from harness.store.run_update import RunUpdate, make_points
from tests.harness import driver
from tests.harness.conftest import Bench
from tests.harness.fakes import make_sleeping_behavior
from tests.harness.processes import find_marked_processes
from tests.harness.servers import MlflowServer, Postgres
from tests.harness.study.drivers import IN_PROCESS, Driver, wait_for
from tests.killed_drivers.study_content import N_CONFIGURATIONS, describe_difference, read_content

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(480)]


@dataclass
class Tracking:
    """A server and its database."""

    database: Postgres
    server: MlflowServer


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """Start a database and a server for all tests of this file."""
    database = Postgres()
    server = None
    try:
        server = MlflowServer(database.uri, tmp_path_factory.mktemp("server"))
        yield Tracking(database, server)
    finally:
        if server is not None:
            server.kill()
        database.remove()
    wait_for(lambda: not find_marked_processes(server.mark), 20)


@pytest.fixture
def server_bench(tracking: Tracking, tmp_path: Path) -> Bench:
    """Return a bench whose store is the server."""
    return Bench(tracking.server.uri, tmp_path / "log", tmp_path / "cache", reuse=False)


def make_named_study(name: str) -> StudyConfig:
    """Return the small study with another name, and therefore another experiment."""
    return driver.make_driver_study(name=name)


@pytest.fixture(scope="module")
def undisturbed_content(
    tracking: Tracking, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Return the content of the store after an undisturbed study."""
    folder = tmp_path_factory.mktemp("undisturbed")
    bench = Bench(tracking.server.uri, folder / "log", folder / "cache")
    assert bench.run(make_named_study("undisturbed")).complete
    bench.check_invariants("undisturbed")
    content = read_content(bench, "undisturbed")
    assert len(content) == N_CONFIGURATIONS + 1
    return content


def run_disturbed(bench: Bench, name: str, act: Callable[[], None]) -> str:
    """Run a study, call `act` once its first trial has begun, and return the output."""

    def act_after_start() -> None:
        wait_for(lambda: bool(bench.list_started()))
        act()

    thread = Thread(target=act_after_start)
    thread.start()
    console = Console(file=io.StringIO(), width=300)
    try:
        assert bench.run(make_named_study(name), console=console).complete
    finally:
        thread.join()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def check_content(bench: Bench, name: str, expected: dict[str, Any]) -> None:
    """Check that no data is lost or duplicated, no run is RUNNING, and no password is stored."""
    assert not describe_difference(read_content(bench, name), expected)
    bench.check_invariants(name)
    assert bench.get_study_run(name).data.tags["ship.state"] == "COMPLETE"
    assert "geheim" not in str([run.to_dictionary() for run in bench.list_runs(name)])


@pytest.mark.parametrize("killed", ["server", "database"])
def test_study_waits_for_a_killed_server(
    tracking: Tracking, server_bench: Bench, undisturbed_content: dict[str, Any], killed: str
) -> None:
    """The store has the same content as without the fault, and each seed is trained once."""
    server_bench.behave = make_sleeping_behavior(0.5)

    def restart() -> None:
        tracking.server.kill() if killed == "server" else tracking.database.stop()
        time.sleep(5.0)
        tracking.server.start() if killed == "server" else tracking.database.start()

    output = run_disturbed(server_bench, killed, restart)
    check_content(server_bench, killed, undisturbed_content)
    assert len(server_bench.list_started()) == 2 * N_CONFIGURATIONS
    if killed == "server":
        assert output.count("the MLflow store does not answer (Connection refused)") == 1
        assert output.count("the MLflow store answers again") == 1
    assert "geheim" not in output and "Traceback" not in output


@pytest.mark.parametrize("end", ["timeout", "sigterm", "sigkill"])
def test_rerun_records_results_finished_during_outage(
    tracking: Tracking, server_bench: Bench, undisturbed_content: dict[str, Any], end: str
) -> None:
    """Seeds that finished during the outage are not trained again."""
    timeout = 4.0 if end == "timeout" else 600.0
    first = Driver(server_bench, 0.5, end, fault={**IN_PROCESS, "store_timeout": timeout})
    try:
        wait_for(lambda: len(server_bench.list_started()) >= 4)  # the second trial has begun
        tracking.server.kill()
        if end != "timeout":
            time.sleep(5.0)  # meanwhile the trial ends, and the driver waits for the server
            first.process.send_signal(signal.SIGTERM if end == "sigterm" else signal.SIGKILL)
    finally:
        code, output = first.end()
        tracking.server.start()
    assert code == {"timeout": 3, "sigterm": 130, "sigkill": -signal.SIGKILL}[end], output
    if end == "timeout":
        assert "Run the same command to resume" in output
    assert "geheim" not in output and "Traceback" not in output
    assert len(server_bench.list_started()) == 4
    code, output = Driver(server_bench, 0.0, end, fault=IN_PROCESS).end()
    assert code == 0, output
    assert len(server_bench.list_started()) == 2 * N_CONFIGURATIONS
    check_content(server_bench, end, undisturbed_content)


@pytest.mark.parametrize("fixture", ["server_bench", "bench"])
def test_repeated_batch_changes_nothing(request: pytest.FixtureRequest, fixture: str) -> None:
    """Points, params and tags are stored once, on PostgreSQL and sqlite."""
    bench: Bench = request.getfixturevalue(fixture)
    store = bench.open_store()
    run_id = store.create_run(store.get_or_create_experiment("twice"), "run", {})
    for last in (3, 3, 5):
        for step in range(last):
            values = {"a": 1 / (step + 1), "nan": float("nan"), "inf": float("inf")}
            metrics = [point._replace(timestamp=7) for point in make_points(values, step)]
            texts = {"params": {"p": "1"}, "tags": {"t": "u"}}
            store.write(RunUpdate(run_id=run_id, metrics=metrics, **texts))
    for key in ("a", "nan", "inf"):
        assert [p.step for p in store.client.get_metric_history(run_id, key)] == list(range(5))
