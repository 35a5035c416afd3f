"""Files of correct predictions and histories of metrics, which are untrusted input.

Invalid files, values and addresses are not read, and long histories are truncated.
"""

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.parquet import write_table

from harness.store import CORRECT_FILE, RunFiles
from reports.study import on_demand
from reports.study.on_demand import CorrectFiles, Histories
from tests.damage import DAMAGE, Damage, apply_damage
from tests.reports.builder import make_empty_store

VALID: dict[str, Any] = {
    "eval_set": pl.Series(["", "", "x"]),
    "class_id": pl.Series([4, 4, 7], dtype=pl.Int32),
    "class": pl.Series(["ant", "ant", "bee"]),
    "seen": pl.Series([True, True, False]),
    "own/seed_3": pl.Series([True, False, True]),
    "all/seed_3": pl.Series([False, False, None]),
}


def load_counts(folder: Path, uri: str = "sqlite:///a.db") -> pl.DataFrame:
    """Return the counts of correct predictions from a run's artifact folder."""
    return CorrectFiles(RunFiles(uri, {"run": folder.as_uri()})).load("run")


def test_predictions_are_counted_by_class(tmp_path: Path) -> None:
    """Predictions that an evaluation set lacks are null, and an unknown run has no rows."""
    pl.DataFrame(VALID).write_parquet(tmp_path / CORRECT_FILE)
    counts = load_counts(tmp_path).select(
        "eval_set", "class_id", "seen", "images", "own/seed_3", "all/seed_3"
    )
    assert counts.rows() == [("", 4, True, 2, 1, 0), ("x", 7, False, 1, 1, None)]
    assert CorrectFiles(RunFiles(folders={"run": tmp_path.as_uri()})).load("other").is_empty()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("class_id", pl.Series([-1, 4, 7], dtype=pl.Int32)),
        ("class_id", pl.Series([None, 4, 7], dtype=pl.Int32)),
        ("class_id", pl.Series([[1], [2], [3]])),
        ("class_id", pl.Series(["a", "b", "c"])),
        ("eval_set", pl.Series([["a"], ["b"], ["c"]])),
        ("eval_set", pl.Series([None, "", ""])),
        ("seen", pl.Series([1, 0, 1])),
        ("own/seed_3", pl.Series([900, 0, 1])),
    ],
)
def test_files_with_columns_of_other_types_are_ignored(
    tmp_path: Path, column: str, values: pl.Series
) -> None:
    """Numbers instead of booleans would give accuracies above 100%."""
    pl.DataFrame({**VALID, column: values}).write_parquet(tmp_path / CORRECT_FILE)
    assert load_counts(tmp_path).is_empty() == (column in VALID)


@given(damage=DAMAGE)
def test_damaged_files_raise_no_error(tmp_path: Path, damage: Damage) -> None:
    """Bytes of the file are changed, or the file is truncated at any position."""
    file = tmp_path / CORRECT_FILE
    pl.DataFrame(VALID).write_parquet(file)
    file.write_bytes(apply_damage(file.read_bytes(), damage))
    load_counts(tmp_path)


def test_damage_at_each_position_does_not_end_the_process(tmp_path: Path) -> None:
    """An invalid header of a page would end the process of a reader that does not check it."""
    pl.DataFrame(VALID).write_parquet(tmp_path / CORRECT_FILE)
    content = (tmp_path / CORRECT_FILE).read_bytes()
    for i in range(len(content)):
        (tmp_path / CORRECT_FILE).write_bytes(content[:i] + b"\x01" + content[i + 1 :])
        load_counts(tmp_path)


def test_a_file_with_a_duplicate_column_is_ignored(tmp_path: Path) -> None:
    """Arrow accepts duplicate columns, and Polars does not."""
    table = pl.DataFrame(VALID).to_arrow()
    write_table(table.append_column("eval_set", table["eval_set"]), tmp_path / CORRECT_FILE)
    assert load_counts(tmp_path).is_empty()


def test_large_files_and_pipes_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file may contain many rows, and a pipe would block."""
    pl.DataFrame(VALID).write_parquet(tmp_path / CORRECT_FILE)
    limits = {
        "reports.study.on_demand.MAX_IMAGES": 2,
        "harness.store.artifacts.MAX_REPORT_FILE_BYTES": 100,
    }
    for name, value in limits.items():
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            assert load_counts(tmp_path).is_empty()
    (tmp_path / CORRECT_FILE).unlink()
    os.mkfifo(tmp_path / CORRECT_FILE)
    assert load_counts(tmp_path).is_empty()


@pytest.mark.parametrize(
    ("folder", "uri", "n_requests"),
    [
        ("http://host/api/2.0/mlflow-artifacts/artifacts/x", "http://server:5000", 0),
        ("mlflow-artifacts:/1/run/artifacts", "sqlite:///a.db", 0),
        ("mlflow-artifacts:/1/run/artifacts", "http://server:5000", 3),
        ("ftp://host/x", "http://server:5000", 0),
        ("", "http://server:5000", 0),
    ],
)
def test_files_of_a_server_are_requested_only_from_that_server(
    monkeypatch: pytest.MonkeyPatch, folder: str, uri: str, n_requests: int
) -> None:
    """A request to another server, whose address is in the store, would send it the token."""
    calls: list[str] = []

    def fail(folder: str, name: str, uri: str) -> None:
        calls.append(folder)
        raise OSError

    monkeypatch.setattr("harness.store.artifacts._download_file", fail)
    files = CorrectFiles(RunFiles(uri, {f"run{i}": folder for i in range(9)}))
    assert all(files.load(f"run{i}").is_empty() for i in range(9))
    assert len(calls) == n_requests  # after three failures there are no more requests


def log_histories(
    uri: str, runs: Sequence[Sequence[tuple[int, float]]], key: str = "m"
) -> list[str]:
    """Create runs with these histories of (step, value), and return their IDs."""
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    Path(uri.removeprefix("sqlite:///")).write_bytes(make_empty_store())
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("curves")
    ids = []
    for points in runs:
        run_id = client.create_run(experiment).info.run_id
        metrics = [Metric(key, value, 1_000 + i, step) for i, (step, value) in enumerate(points)]
        client.log_batch(run_id, metrics=metrics)
        ids.append(run_id)
    return ids


def test_histories_are_sorted_by_step(store_uri: str) -> None:
    """If a step has several values, the last one counts."""
    first_run, second_run = log_histories(
        store_uri, [[(1, 5.0), (3, 7.0), (2, 6.0), (3, 8.0)], [(4, 1.0)]]
    )
    histories = Histories(store_uri).load("m", [first_run, second_run, "unknown"])
    assert histories == {first_run: [(1, 5.0), (2, 6.0), (3, 8.0)], second_run: [(4, 1.0)]}
    assert Histories(store_uri).load("other", [first_run]) == {}


def test_runs_without_a_finite_value_have_no_history(store_uri: str) -> None:
    """MLflow stores NaN and infinity, too."""
    ids = log_histories(store_uri, [[(1, 5.0), (2, 6.0)], [(1, float("nan")), (2, float("inf"))]])
    assert Histories(store_uri).load("m", ids) == {ids[0]: [(1, 5.0), (2, 6.0)]}


@pytest.mark.parametrize("value", ["text", b"\x00", None, 1e308, -1e308])
def test_values_that_are_not_numbers_are_dropped(store_uri: str, value: Any) -> None:
    """sqlite can store values of any type in a column of numbers."""
    (run_id,) = log_histories(store_uri, [[(1, 5.0), (2, 6.0)]])
    with contextlib.closing(sqlite3.connect(store_uri.removeprefix("sqlite:///"))) as database:
        database.execute(
            "UPDATE metrics SET value = coalesce(?, value), is_nan = ? WHERE step = 2",
            [value, value is None],
        )
        database.execute(
            "INSERT INTO metrics SELECT key, 5.0, timestamp + 9, run_uuid, 'x', 0"
            " FROM metrics WHERE step = 1"
        )
        database.commit()
    assert Histories(store_uri).load("m", [run_id]) == {run_id: [(1, 5.0)]}


ANYTHING = st.one_of(
    st.none(), st.text(max_size=3), st.binary(max_size=3), st.floats(), st.integers(), st.booleans()
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), ANYTHING, ANYTHING)))
def test_histories_of_any_content_have_ascending_steps_and_finite_values(
    rows: list[tuple[str, Any, Any]],
) -> None:
    """The store's columns of steps and values may contain values of any type."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_demand, "_read_points", lambda uri, metric, run_ids: iter(rows))
        histories = Histories("http://nowhere").load("m", ["a", "b"])
    for history in histories.values():
        steps = [step for step, _ in history]
        assert history and steps == sorted(set(steps))
        assert all(type(step) is int and abs(value) < 1e300 for step, value in history)


def test_long_histories_are_truncated(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The total number of values is limited, so that histories cannot fill the memory."""
    ids = log_histories(store_uri, [[(i, 1.0) for i in range(9)] for _ in range(3)])
    monkeypatch.setattr(on_demand, "MAX_VALUES", 10)
    assert sum(len(h) for h in Histories(store_uri).load("m", ids).values()) <= 10


@pytest.mark.parametrize("fails", [True, False])
def test_a_sample_of_many_runs_is_requested_from_a_server(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The sampled runs are evenly spaced and requested once. Failures end the requests."""
    client, all_ids = mock.Mock(), [str(i) for i in range(1000)]
    client.get_metric_history = mock.Mock(side_effect=OSError if fails else None, return_value=[])
    monkeypatch.setattr("mlflow.tracking.MlflowClient", lambda uri: client)
    histories = Histories("http://nowhere")
    assert histories.load("m", all_ids) == histories.load("m", all_ids) == {}
    run_ids = [call.args[0] for call in client.get_metric_history.call_args_list]
    if fails:
        assert len(run_ids) == on_demand.MAX_FAILED_REQUESTS
    else:
        assert 200 <= len(run_ids) <= on_demand.MAX_HISTORIES
        assert int(run_ids[-1]) > 990


def test_without_a_store_there_is_no_history(store_uri: str) -> None:
    """An empty URI, a missing store and a database without MLflow's tables are no error."""
    assert Histories().load("m", ["run"]) == {}
    assert Histories("sqlite:////nowhere/at/all.db").load("m", ["run"]) == {}
    with contextlib.closing(sqlite3.connect(store_uri.removeprefix("sqlite:///"))) as database:
        database.execute("CREATE TABLE other (a TEXT)")
    assert Histories(store_uri).load("m", ["run"]) == {}
