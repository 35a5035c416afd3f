"""Metric histories are somebody else's: what is no number is left out, and too much is cut."""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.read import on_demand as curves
from reports.read.on_demand import Histories
from tests.reports.builder import empty_store


def logged(uri: str, runs: Sequence[Sequence[tuple[int, float]]], key: str = "m") -> list[str]:
    """The ids of new runs with these histories."""
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    Path(uri.removeprefix("sqlite:///")).write_bytes(empty_store())
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("curves")
    ids = []
    for points in runs:
        run_id = client.create_run(experiment).info.run_id
        metrics = [Metric(key, value, 1_000 + i, step) for i, (step, value) in enumerate(points)]
        client.log_batch(run_id, metrics=metrics)
        ids.append(run_id)
    return ids


def test_histories_in_the_order_of_steps(store_uri: str) -> None:
    """Each run has its own values; of one step the last that was written counts."""
    one, other = logged(store_uri, [[(1, 5.0), (3, 7.0), (2, 6.0), (3, 8.0)], [(4, 1.0)]])
    found = Histories(store_uri).of("m", [one, other, "nobody"])
    assert found == {one: [(1, 5.0), (2, 6.0), (3, 8.0)], other: [(4, 1.0)]}
    assert Histories(store_uri).of("other", [one]) == {}


def test_client_reads_the_same(store_uri: str) -> None:
    """MLflow's client and plain SQL give one answer."""
    ids = logged(store_uri, [[(1, 5.0), (2, 6.0)], [(1, float("nan")), (2, float("inf"))]])
    for read in (curves._from_client, curves._from_sqlite):
        own = [point for point in read(store_uri, "m", ids) if point[0] == ids[0]]
        assert own == [(ids[0], 1, 5.0), (ids[0], 2, 6.0)]
    assert Histories(store_uri).of("m", ids) == {ids[0]: [(1, 5.0), (2, 6.0)]}


@pytest.mark.parametrize("value", ["text", b"\x00", None, 1e308, -1e308])
def test_what_is_no_number_is_left_out(store_uri: str, value: Any) -> None:
    """sqlite keeps whatever somebody puts in a column of numbers."""
    (run_id,) = logged(store_uri, [[(1, 5.0), (2, 6.0)]])
    with contextlib.closing(sqlite3.connect(store_uri.removeprefix("sqlite:///"))) as base:
        base.execute("UPDATE metrics SET value = coalesce(?, value), is_nan = ? WHERE step = 2",
                     [value, value is None])  # fmt: skip
        base.execute("INSERT INTO metrics SELECT key, 5.0, timestamp + 9, run_uuid, 'x', 0"
                     " FROM metrics WHERE step = 1")  # fmt: skip
        base.commit()
    assert Histories(store_uri).of("m", [run_id]) == {run_id: [(1, 5.0)]}


ANYTHING = st.one_of(
    st.none(), st.text(max_size=3), st.binary(max_size=3), st.floats(), st.integers(), st.booleans()
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), ANYTHING, ANYTHING)))
def test_whatever_a_store_gives_there_is_a_history(rows: list[tuple[str, Any, Any]]) -> None:
    """Steps ascend and are whole, values are finite, whatever stands in the columns."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(curves, "_from_client", lambda uri, metric, run_ids: iter(rows))
        found = Histories("http://nowhere").of("m", ["a", "b"])
    for history in found.values():
        steps = [step for step, _ in history]
        assert history and steps == sorted(set(steps))
        assert all(type(step) is int and abs(value) < 1e300 for step, value in history)


def test_a_long_history_is_cut(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run can fill the memory of a report, nor can all of them together."""
    ids = logged(store_uri, [[(i, 1.0) for i in range(9)] for _ in range(3)])
    monkeypatch.setattr(curves, "MOST_POINTS", 4)
    assert [len(h) for h in Histories(store_uri).of("m", ids).values()] == [4, 4, 4]
    monkeypatch.setattr(curves, "MOST_VALUES", 10)
    assert sum(len(h) for h in Histories(store_uri).of("m", ids).values()) <= 10
    assert len(list(curves._from_client(store_uri, "m", ids))) == 10


@pytest.mark.parametrize("fails", [True, False])
def test_a_server_is_asked_for_some_of_many_runs(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """From all over the study, each once; a report does not wait for a thousand to fail."""
    client, many = mock.Mock(), [str(i) for i in range(1000)]
    client.get_metric_history = mock.Mock(side_effect=OSError if fails else None, return_value=[])
    monkeypatch.setattr("mlflow.tracking.MlflowClient", lambda uri: client)
    histories = Histories("http://nowhere")
    assert histories.of("m", many) == histories.of("m", many) == {}
    asked = [call.args[0] for call in client.get_metric_history.call_args_list]
    assert len(asked) == curves.MOST_FAILED if fails else 200 <= len(asked) <= curves.MOST_ASKED
    assert fails or int(asked[-1]) > 990


def test_no_store_no_history(store_uri: str) -> None:
    """A made-up study, a store that has gone, a database without the table: nothing, no error."""
    assert Histories().of("m", ["run"]) == {}
    assert Histories("sqlite:////nowhere/at/all.db").of("m", ["run"]) == {}
    with contextlib.closing(sqlite3.connect(store_uri.removeprefix("sqlite:///"))) as base:
        base.execute("CREATE TABLE other (a TEXT)")
    assert Histories(store_uri).of("m", ["run"]) == {}
