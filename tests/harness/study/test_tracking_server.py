"""Studies with `mlflow server` and PostgreSQL, which are killed during a study."""

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
from tests.harness.fakes import sleepy
from tests.harness.listening import marked
from tests.harness.servers import MlflowServer, Postgres
from tests.harness.study.drivers import HERE, Driver, wait_for
from tests.killed_drivers.study_content import N_CONFIGURATIONS, describe_difference, read_content

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(480)]


@dataclass
class Place:
    """A server and its database."""

    database: Postgres
    server: MlflowServer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start both for all tests of this file."""
    database = Postgres()
    server = None
    try:
        server = MlflowServer(database.uri, tmp_path_factory.mktemp("server"))
        yield Place(database, server)
    finally:
        if server is not None:
            server.kill()
        database.remove()
    wait_for(lambda: not marked(server.mark), 20)


@pytest.fixture
def there(place: Place, tmp_path: Path) -> Bench:
    """Return a bench on the server."""
    return Bench(place.server.uri, tmp_path / "log", tmp_path / "cache", reuse=False)


def study(name: str) -> StudyConfig:
    """Return the small study under another name, which is a new experiment."""
    return driver.study(name=name)


@pytest.fixture(scope="module")
def calm(place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the content that an undisturbed study leaves."""
    folder = tmp_path_factory.mktemp("calm")
    bench = Bench(place.server.uri, folder / "log", folder / "cache")
    assert bench.run(study("calm")).complete
    bench.check_invariants("calm")
    undisturbed = read_content(bench, "calm")
    assert len(undisturbed) == N_CONFIGURATIONS + 1
    return undisturbed


def disturbed(bench: Bench, name: str, act: Callable[[], None]) -> str:
    """Run a study, act once its first trial has begun, and return the output."""

    def later() -> None:
        wait_for(lambda: bool(bench.lines()))
        act()

    thread = Thread(target=later)
    thread.start()
    console = Console(file=io.StringIO(), width=300)
    try:
        assert bench.run(study(name), console=console).complete
    finally:
        thread.join()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def check(bench: Bench, name: str, calm: dict[str, Any]) -> None:
    """Check that nothing is lost, doubled or RUNNING, and that no secret is printed."""
    assert not describe_difference(read_content(bench, name), calm)
    bench.check_invariants(name)
    assert bench.parent(name).data.tags["ship.state"] == "COMPLETE"
    assert "geheim" not in str([run.to_dictionary() for run in bench.runs(name)])


@pytest.mark.parametrize("gone", ["server", "database"])
def test_study_waits_for_a_killed_server(
    place: Place, there: Bench, calm: dict[str, Any], gone: str
) -> None:
    """The table is the same and each seed is trained once, also if only the database restarts."""
    there.behave = sleepy(0.5)

    def strike() -> None:
        place.server.kill() if gone == "server" else place.database.stop()
        time.sleep(5.0)
        place.server.start() if gone == "server" else place.database.start()

    shown = disturbed(there, gone, strike)
    check(there, gone, calm)
    assert len(there.lines()) == 2 * N_CONFIGURATIONS
    if gone == "server":
        assert shown.count("the MLflow store does not answer (Connection refused)") == 1
        assert shown.count("the MLflow store answers again") == 1
    assert "geheim" not in shown and "Traceback" not in shown


@pytest.mark.parametrize("end", ["timeout", "sigterm", "sigkill"])
def test_rerun_records_results_finished_during_outage(
    place: Place, there: Bench, calm: dict[str, Any], end: str
) -> None:
    """No seed that was trained is trained again."""
    timeout = 4.0 if end == "timeout" else 600.0
    first = Driver(there, 0.5, end, fault={**HERE, "store_timeout": timeout})
    try:
        wait_for(lambda: len(there.lines()) >= 4)  # the second trial has begun
        place.server.kill()
        if end != "timeout":
            time.sleep(5.0)  # the trial ends, and its driver waits
            first.process.send_signal(signal.SIGTERM if end == "sigterm" else signal.SIGKILL)
    finally:
        code, output = first.end()
        place.server.start()
    assert code == {"timeout": 3, "sigterm": 130, "sigkill": -signal.SIGKILL}[end], output
    if end == "timeout":
        assert "Run the same command to resume" in output
    assert "geheim" not in output and "Traceback" not in output
    assert len(there.lines()) == 4
    code, output = Driver(there, 0.0, end, fault=HERE).end()
    assert code == 0, output
    assert len(there.lines()) == 2 * N_CONFIGURATIONS
    check(there, end, calm)


@pytest.mark.parametrize("where", ["there", "bench"])
def test_repeated_batch_changes_nothing(request: pytest.FixtureRequest, where: str) -> None:
    """Points, params and tags are not added again, on PostgreSQL and sqlite."""
    bench: Bench = request.getfixturevalue(where)
    store = bench.store()
    run_id = store.create_run(store.get_or_create_experiment("twice"), "run", {})
    for last in (3, 3, 5):
        for step in range(last):
            values = {"a": 1 / (step + 1), "nan": float("nan"), "inf": float("inf")}
            metrics = [point._replace(timestamp=7) for point in make_points(values, step)]
            texts = {"params": {"p": "1"}, "tags": {"t": "u"}}
            store.write(RunUpdate(run_id=run_id, metrics=metrics, **texts))
    for key in ("a", "nan", "inf"):
        assert [p.step for p in store.client.get_metric_history(run_id, key)] == list(range(5))
