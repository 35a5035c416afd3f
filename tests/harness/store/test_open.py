"""Opening a store, errors of stores that cannot be opened, and batched writes."""

import json
import socket
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import Mock

import pytest

from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import PlanRow, Work, make_plan
from harness.recording.numbers import make_flag_tags
from harness.recording.study_run import ParentRun
from harness.recording.trial_runs import TrialRecorder
from harness.store import Failure, State, errors, join_tag, sqlite_tables
from harness.store.errors import StoreError
from harness.store.history import RunHistory, read_history
from harness.store.open import Store, open_existing_store, open_store
from harness.store.run_update import MAX_TAG, RunUpdate, close_dead_runs, make_points, split_tag
from reports import load_study
from reports.errors import ReportError
from tests.case_files import load_cases
from tests.harness.fakes import make_study
from tests.harness.servers import MlflowServer

NO_STORE = load_cases(__file__, "no_store.yaml")


@pytest.mark.parametrize("name", ["a b", "ü", "#", "&'\"", "%", "a:b"])
def test_folder_name_may_contain_special_characters(tmp_path: Path, name: str) -> None:
    """MLflow does not quote paths in SQL, and an sqlite address contains the path."""
    folder = tmp_path / name
    folder.mkdir()
    store = open_store(f"sqlite:///{folder}/mlflow.db")
    run = store.client.create_run(store.get_or_create_experiment("small")).info.run_id
    store.write(RunUpdate(run_id=run, files={"x": b"1"}))
    assert (folder / "mlflow.db").stat().st_size > 0
    assert len([file for file in folder.rglob("x") if file.is_file()]) == 1


@pytest.mark.parametrize("name", ["who?", "who?x=1", "%40"])
def test_folder_name_unusable_in_sqlite_address_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error advises another folder, and no file is created."""
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(StoreError, match=r"cannot contain .* Use a store in another folder"):
        open_store(f"sqlite:///{folder}/mlflow.db")
    with pytest.raises(StoreError, match=r"cannot contain .* Use a store in another folder"):
        open_store("sqlite:///mlflow.db")
    assert list(tmp_path.rglob("*")) == [folder]


def test_reading_does_not_create_a_store(tmp_path: Path) -> None:
    """This is what a dry run does."""
    assert open_existing_store(f"sqlite:///{tmp_path}/none.db") is None
    assert list(tmp_path.iterdir()) == []


def test_locked_store_is_one_line_error(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is raised after LOCK_SECONDS, without MLflow's retries."""
    monkeypatch.setattr(sqlite_tables, "LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="cannot use the MLflow store: database is locked"):
            open_store(uri)


@pytest.mark.parametrize(("uri", "message"), NO_STORE["addresses"].items())
def test_missing_store_is_one_line_error(
    tmp_path: Path, uri: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is raised without MLflow's retries, which take minutes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(errors, "FIRST_PAUSE", 0.0)
    Path("garbage.db").write_bytes(b"no database " * 100)
    with pytest.raises(StoreError, match=message) as error:
        open_store(uri)
    assert "\n" not in str(error.value)


def test_unreachable_database_is_one_line_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is raised before MLflow's client would try to connect for minutes."""
    monkeypatch.setattr("mlflow.tracking.MlflowClient", Mock(side_effect=AssertionError))
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9/x: .* failed: .*psycopg2"):
        open_store("postgresql+psycopg2://127.0.0.1:9/x")


@pytest.mark.parametrize(("answer", "message"), NO_STORE["answers"].items())
def test_server_that_is_not_mlflow_is_one_line_error(answer: str, message: str) -> None:
    """The line contains neither the user nor the password."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                request = connection.recv(1000)
                connection.sendall(answer.encode() if b"geheim" not in request else b"")

        thread = Thread(target=serve)
        thread.start()
        with pytest.raises(StoreError, match=message) as raised:
            open_store(f"http://me:geheim@127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert "geheim" not in str(raised.value)


@pytest.mark.slow
def test_rejected_host_name_error_names_allowed_hosts(tmp_path: Path) -> None:
    """MLflow answers with status 403. Runs and reports advise the value of --allowed-hosts."""
    server = MlflowServer(f"sqlite:///{tmp_path}/served.db", tmp_path, allowed_hosts="mlflow:5000")
    try:
        host = f"127.0.0.1:{server.port}"
        line = f"does not accept the host name {host}. Start it with --allowed-hosts {host}"
        with pytest.raises(StoreError) as refused:
            open_store(server.uri)
        assert (
            str(refused.value) == f"http://***@{host}: the MLflow store failed: the server {line}"
        )
        with pytest.raises(ReportError) as report_error:
            load_study("small", server.uri)
        assert str(report_error.value).endswith(f"cannot read the MLflow store: the server {line}")
        server.kill()
        server.allowed_hosts = host
        server.start()
        assert open_store(server.uri).uri
    finally:
        server.kill()


def test_many_metrics_and_tags_are_written_in_batches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow accepts 1000 metrics and 100 params or tags per request. The state is written last."""
    run = store.client.create_run(store.get_or_create_experiment("small")).info.run_id
    metrics = {f"m{i}": float(i) for i in range(2001)}
    tags = {f"t{i}": str(i) for i in range(250)}
    requests, tracking_store = [], store.client._tracking_client.store
    log_batch = tracking_store.log_batch

    def record_request(run_id: str, **batch: Any) -> None:
        requests.append((len(batch["metrics"]), [tag.key for tag in batch["tags"]]))
        log_batch(run_id, **batch)

    monkeypatch.setattr(tracking_store, "log_batch", record_request)
    content = {"metrics": make_points(metrics), "tags": tags, "params": tags}
    store.write(RunUpdate(run_id=run, state=State.COMPLETE, **content))
    assert sum(n_metrics for n_metrics, _ in requests) == 2001
    n_metrics, tag_keys = requests[-1]
    assert n_metrics == 0 and tag_keys[-1] == "ship.state"
    data = store.client.get_run(run).data
    assert len(data.metrics) == 2001
    assert len(data.params) == 250
    assert {f"t{i}" for i in range(250)} <= set(data.tags)


@pytest.mark.parametrize(
    ("state", "status"),
    [("COMPLETE", "FINISHED"), ("FAIL", "FAILED"), ("RUNNING", "KILLED"), ("DONE", "KILLED")],
)
def test_run_of_a_killed_driver_keeps_its_final_state(
    store: Store, state: str, status: str
) -> None:
    """The driver wrote the tag but not MLflow's status. An unknown state is ignored."""
    experiment = store.get_or_create_experiment("small")
    tags = {"ship.kind": "trial", "ship.state": state}
    run = store.client.create_run(experiment, tags=tags).info.run_id
    assert close_dead_runs(store.client, experiment) == 1
    closed = store.client.get_run(run)
    closed_state = state if status != "KILLED" else "INTERRUPTED"
    assert (closed.info.status, closed.data.tags["ship.state"]) == (status, closed_state)
    reason = "its driver ended before it closed the run" if closed_state != state else None
    assert closed.data.tags.get("ship.reason") == reason


def test_raised_flags_become_one_tag() -> None:
    """The tag maps each raised flag to its seeds. Without raised flags there is no tag."""
    not_raised = {"test/flag/mean_gap/seed_3": 0.0, "test/flag/mean_gap/seed_5": 0.0}
    not_raised |= {"test/harmonic_mean/seed_3": 1.0, "test/harmonic_mean/seed_5": 2.0}
    assert make_flag_tags(not_raised, (3, 5)) == {}
    flags = {"flag/posterior_collapse": (0.0, 1.0), "flag/diversity_collapse": (1.0, 1.0)}
    raised = {
        f"test/{name}/seed_{seed}": value
        for name, values in flags.items()
        for seed, value in zip((3, 5), values, strict=True)
    }
    (text,) = make_flag_tags(not_raised | raised, (3, 5)).values()
    assert json.loads(text) == {"posterior_collapse": [5], "diversity_collapse": [3, 5]}


@pytest.fixture
def recorder(store: Store, prints: Fingerprints) -> TrialRecorder:
    """Return a recorder that writes to the test's store."""
    study = make_study()
    experiment = store.get_or_create_experiment("small")
    parent = ParentRun.get_or_create(store, experiment, study)
    parent.describe(study, make_plan(study, RunHistory(), prints))
    return TrialRecorder(parent, study, prints)


@pytest.fixture
def work(prints: Fingerprints) -> Work:
    """Return the work of a trial."""
    return make_plan(make_study(), RunHistory(), prints).work[0]


def test_epochs_are_written_in_batches(
    recorder: TrialRecorder, work: Work, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last epochs are written together with the final state, and no epoch is lost."""
    n_metrics = []
    log_batch = store.client.log_batch

    def count_metrics(*args: Any, **keys: Any) -> None:
        n_metrics.append(len(keys["metrics"]))
        log_batch(*args, **keys)

    recorder.start("t", work)
    monkeypatch.setattr(store.client, "log_batch", count_metrics)
    for epoch in range(1, 301):
        recorder.add_epochs(
            "t", [{"stage": "final", "epoch": epoch, "metrics": {"training/loss": 1 / epoch}}], {}
        )
    recorder.end("t", State.FAIL, "why", Failure.ERROR)
    assert sum(n > 0 for n in n_metrics) <= 2
    assert sum(n_metrics) == 300
    (run,) = store.client.search_runs(["1"], filter_string="tags.`ship.kind` = 'trial'")
    assert len(store.client.get_metric_history(run.info.run_id, "training/loss")) == 300
    assert run.data.tags["ship.reason"] == "why"


def test_proposal_writes_only_the_end_of_the_list(
    store: Store, prints: Fingerprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write has less than MAX_TAG bytes on average, and the stored list is always complete."""
    experiment = store.get_or_create_experiment("small")
    study = make_study()
    parent = ParentRun.get_or_create(store, experiment, study)
    plan = make_plan(study, RunHistory(), prints)
    parent.describe(study, plan)
    stored_tags = dict(store.client.get_run(parent.run_id).data.tags)
    sizes: list[int] = []
    log_batch = store.client.log_batch

    def record_tags(run_id: str, **keys: Any) -> None:
        new_tags = {tag.key: tag.value for tag in keys["tags"]}
        sizes.append(sum(map(len, new_tags.values())))
        stored_tags.update(new_tags)
        log_batch(run_id, **keys)

    monkeypatch.setattr(store.client, "log_batch", record_tags)
    for number in range(200):
        assignment = {f"generator.a_longer_name_{i}": number / 7 for i in range(10)}
        configuration = replace(
            plan.configurations[0], key=f"proposed {number}", assignment=assignment
        )
        parent.add_planned(configuration)
        parent.add_planned(configuration)  # the second call writes nothing
        # in a single request, so that the tags are consistent if the driver is killed
        assert len(sizes) == number + 1
        planned = json.loads(join_tag(stored_tags, "ship.planned"))
        assert len(planned) == 3 + number + 1 and planned[-1]["assignment"] == assignment
    assert sum(sizes) < 200 * MAX_TAG < 0.2 * 200 * len(join_tag(stored_tags, "ship.planned"))
    stored = read_history(store.client, experiment, "").study
    assert len(stored.configurations) == 203
    assert stored.configurations[-1].key == "proposed 199"
    resumed = ParentRun.get_or_create(store, experiment, study)
    resumed.describe(study, replace(plan, rows=(*plan.rows, PlanRow(configuration, ()))))
    stored = read_history(store.client, experiment, "").study
    assert len(stored.configurations) == 4


@pytest.mark.parametrize("size", [0, 1, *(n * MAX_TAG + d for n in (1, 2) for d in (-1, 0, 1))])
def test_long_tag_is_split_and_joined(size: int) -> None:
    """The text is restored exactly."""
    tags = split_tag("t", "x" * size)
    assert join_tag(tags, "t") == "x" * size
    assert max(map(len, tags.values())) <= MAX_TAG


def test_long_run_name_is_truncated(recorder: TrialRecorder, work: Work, store: Store) -> None:
    """PostgreSQL refuses more than 250 characters."""
    long = replace(
        work, configuration=replace(work.configuration, assignment={"a": "x" * 300, "b": "y" * 300})
    )
    recorder.start("t", long)
    (run,) = store.client.search_runs(["1"], filter_string="tags.`ship.kind` = 'trial'")
    assert run.info.run_name == long.configuration.label[:250]
