"""Files of correct answers and metric histories are untrusted input.

Invalid files, values and addresses are not read, and long histories are cut.
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
from tests.reports.builder import empty_store

SOUND: dict[str, Any] = {
    "eval_set": pl.Series(["", "", "x"]),
    "class_id": pl.Series([4, 4, 7], dtype=pl.Int32),
    "class": pl.Series(["ant", "ant", "bee"]),
    "seen": pl.Series([True, True, False]),
    "own/seed_3": pl.Series([True, False, True]),
    "all/seed_3": pl.Series([False, False, None]),
}


def read(folder: Path, uri: str = "sqlite:///a.db") -> pl.DataFrame:
    """The counts of the run whose artifacts are there."""
    return CorrectFiles(RunFiles(uri, {"run": folder.as_uri()})).load("run")


def test_answers_are_counted_by_class(tmp_path: Path) -> None:
    """A kind of answer that an evaluation set lacks is null, and an unknown run has no rows."""
    pl.DataFrame(SOUND).write_parquet(tmp_path / CORRECT_FILE)
    counts = read(tmp_path).select(
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
    pl.DataFrame({**SOUND, column: values}).write_parquet(tmp_path / CORRECT_FILE)
    assert read(tmp_path).is_empty() == (column in SOUND)


@given(damage=DAMAGE)
def test_damaged_files_have_no_rows(tmp_path: Path, damage: Damage) -> None:
    """Bytes of the file are changed, or it is cut at any position."""
    file = tmp_path / CORRECT_FILE
    pl.DataFrame(SOUND).write_parquet(file)
    file.write_bytes(apply_damage(file.read_bytes(), damage))
    read(tmp_path)


def test_damage_at_each_position_does_not_end_the_process(tmp_path: Path) -> None:
    """This includes the header of a page, which ends the process of a careless reader."""
    pl.DataFrame(SOUND).write_parquet(tmp_path / CORRECT_FILE)
    content = (tmp_path / CORRECT_FILE).read_bytes()
    for place in range(len(content)):
        (tmp_path / CORRECT_FILE).write_bytes(content[:place] + b"\x01" + content[place + 1 :])
        read(tmp_path)


def test_a_file_with_a_duplicate_column_is_ignored(tmp_path: Path) -> None:
    """Arrow accepts it, polars does not."""
    table = pl.DataFrame(SOUND).to_arrow()
    write_table(table.append_column("eval_set", table["eval_set"]), tmp_path / CORRECT_FILE)
    assert read(tmp_path).is_empty()


def test_large_files_and_pipes_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few bytes may contain many rows, and a pipe would block."""
    pl.DataFrame(SOUND).write_parquet(tmp_path / CORRECT_FILE)
    limits = {
        "reports.study.on_demand.MAX_IMAGES": 2,
        "harness.store.artifacts.MAX_REPORT_FILE_BYTES": 100,
    }
    for name, value in limits.items():
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            assert read(tmp_path).is_empty()
    (tmp_path / CORRECT_FILE).unlink()
    os.mkfifo(tmp_path / CORRECT_FILE)
    assert read(tmp_path).is_empty()


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
    """An address from the store would be sent the server's token."""
    calls: list[str] = []

    def fail(folder: str, name: str, uri: str) -> None:
        calls.append(folder)
        raise OSError

    monkeypatch.setattr("harness.store.artifacts._download_file", fail)
    files = CorrectFiles(RunFiles(uri, {f"run{i}": folder for i in range(9)}))
    assert all(files.load(f"run{i}").is_empty() for i in range(9))
    assert len(calls) == n_requests  # three that fail are enough


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


def test_histories_are_sorted_by_step(store_uri: str) -> None:
    """Each run has its own values, and the last value of a step counts."""
    first_run, second_run = logged(
        store_uri, [[(1, 5.0), (3, 7.0), (2, 6.0), (3, 8.0)], [(4, 1.0)]]
    )
    histories = Histories(store_uri).load("m", [first_run, second_run, "nobody"])
    assert histories == {first_run: [(1, 5.0), (2, 6.0), (3, 8.0)], second_run: [(4, 1.0)]}
    assert Histories(store_uri).load("other", [first_run]) == {}


def test_a_history_without_a_finite_value_is_none(store_uri: str) -> None:
    """MLflow stores NaN and infinity."""
    ids = logged(store_uri, [[(1, 5.0), (2, 6.0)], [(1, float("nan")), (2, float("inf"))]])
    assert Histories(store_uri).load("m", ids) == {ids[0]: [(1, 5.0), (2, 6.0)]}


@pytest.mark.parametrize("value", ["text", b"\x00", None, 1e308, -1e308])
def test_values_that_are_no_numbers_are_dropped(store_uri: str, value: Any) -> None:
    """sqlite stores any value in a column of numbers."""
    (run_id,) = logged(store_uri, [[(1, 5.0), (2, 6.0)]])
    with contextlib.closing(sqlite3.connect(store_uri.removeprefix("sqlite:///"))) as base:
        base.execute("UPDATE metrics SET value = coalesce(?, value), is_nan = ? WHERE step = 2",
                     [value, value is None])  # fmt: skip
        base.execute("INSERT INTO metrics SELECT key, 5.0, timestamp + 9, run_uuid, 'x', 0"
                     " FROM metrics WHERE step = 1")  # fmt: skip
        base.commit()
    assert Histories(store_uri).load("m", [run_id]) == {run_id: [(1, 5.0)]}


ANYTHING = st.one_of(
    st.none(), st.text(max_size=3), st.binary(max_size=3), st.floats(), st.integers(), st.booleans()
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), ANYTHING, ANYTHING)))
def test_histories_of_any_content_have_ascending_steps_and_finite_values(
    rows: list[tuple[str, Any, Any]],
) -> None:
    """This is true whatever the columns of the store contain."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(on_demand, "_read_points", lambda uri, metric, run_ids: iter(rows))
        histories = Histories("http://nowhere").load("m", ["a", "b"])
    for history in histories.values():
        steps = [step for step, _ in history]
        assert history and steps == sorted(set(steps))
        assert all(type(step) is int and abs(value) < 1e300 for step, value in history)


def test_a_long_history_is_cut(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Histories cannot fill the memory of a report."""
    ids = logged(store_uri, [[(i, 1.0) for i in range(9)] for _ in range(3)])
    monkeypatch.setattr(on_demand, "MAX_VALUES", 10)
    assert sum(len(h) for h in Histories(store_uri).load("m", ids).values()) <= 10


@pytest.mark.parametrize("fails", [True, False])
def test_a_sample_of_many_runs_is_requested_from_a_server(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The runs are evenly spaced, each is requested once, and failures end the requests."""
    client, many = mock.Mock(), [str(i) for i in range(1000)]
    client.get_metric_history = mock.Mock(side_effect=OSError if fails else None, return_value=[])
    monkeypatch.setattr("mlflow.tracking.MlflowClient", lambda uri: client)
    histories = Histories("http://nowhere")
    assert histories.load("m", many) == histories.load("m", many) == {}
    run_ids = [call.args[0] for call in client.get_metric_history.call_args_list]
    assert (
        len(run_ids) == on_demand.MAX_FAILED_REQUESTS
        if fails
        else 200 <= len(run_ids) <= on_demand.MAX_HISTORIES
    )
    assert fails or int(run_ids[-1]) > 990


def test_without_a_store_there_is_no_history(store_uri: str) -> None:
    """An empty address, a missing store and a database without the table are no error."""
    assert Histories().load("m", ["run"]) == {}
    assert Histories("sqlite:////nowhere/at/all.db").load("m", ["run"]) == {}
    with contextlib.closing(sqlite3.connect(store_uri.removeprefix("sqlite:///"))) as base:
        base.execute("CREATE TABLE other (a TEXT)")
    assert Histories(store_uri).load("m", ["run"]) == {}
