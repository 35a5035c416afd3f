"""Reading a store by plain SQL and by MLflow's client: the same runs."""

import contextlib
import math
import sqlite3

import pytest

from reports.contract import ReportError
from reports.read.runs import read_runs, sqlite_runs
from tests.reports.builder import prompt_len


def test_sqlite_and_the_client_read_the_same(
    store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain SQL gives what MLflow's client gives, page by page, NaN included."""
    builder = prompt_len()
    builder.runs[0].metrics["seed_0/test/joint_new"] = math.nan
    fast = read_runs("prompt_len", builder.write(store_uri))
    monkeypatch.setattr("reports.read.runs.PAGE", 2)
    monkeypatch.setattr("reports.read.runs.sqlite_runs", lambda *_: None)
    slow = read_runs("prompt_len", store_uri)
    assert len(fast) == len(slow) == 10
    for one, other in zip(fast, slow, strict=True):
        assert one.metrics == pytest.approx(other.metrics, nan_ok=True)
        assert (one.run_id, one.started, one.params) == (other.run_id, other.started, other.params)
        assert one.tags == other.tags


def test_a_store_of_other_tables_is_left_to_the_client(store_uri: str) -> None:
    """Where a later MLflow has renamed a table, plain SQL gives way and nothing is wrong."""
    path = prompt_len().write(store_uri).removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("ALTER TABLE latest_metrics RENAME TO latest")
    assert sqlite_runs(store_uri, "prompt_len") is None


def test_deleted_runs_are_not_read(store_uri: str) -> None:
    """A run in MLflow's bin is no run of the study."""
    from mlflow.tracking import MlflowClient

    uri = prompt_len().write(store_uri)
    last = read_runs("prompt_len", uri)[-1]
    MlflowClient(tracking_uri=uri).delete_run(last.run_id)
    assert last.run_id not in {run.run_id for run in read_runs("prompt_len", uri)}


def test_an_sqlite_address_with_options_is_refused(store_uri: str) -> None:
    """As ship-sweep does: one line that says how to write it."""
    uri = prompt_len().write(store_uri)
    with pytest.raises(ReportError) as raised:
        read_runs("prompt_len", f"{uri}?timeout=30")
    hidden = f"{uri}?timeout=***"
    assert str(raised.value) == f"{hidden}: an sqlite store takes no options: write {uri}"
