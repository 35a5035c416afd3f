"""Files of right answers are somebody else's: what is unsound, or elsewhere, is not read."""

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given

from reports.contract import HITS
from reports.read import on_demand as hits
from reports.read.on_demand import HitFiles
from tests.damage import DAMAGE, Damage, damaged

SOUND: dict[str, Any] = {
    "exam": pl.Series(["", "", "x"]),
    "class_id": pl.Series([4, 4, 7], dtype=pl.Int32),
    "class": pl.Series(["ant", "ant", "bee"]),
    "seen": pl.Series([True, True, False]),
    "seed_3/own": pl.Series([True, False, True]),
    "seed_3/all": pl.Series([False, False, None]),
}


def read(folder: Path, uri: str = "sqlite:///a.db") -> dict[str, Any]:
    """Seed 3's exams of the run whose artifacts are there."""
    return HitFiles({"run": folder.as_uri()}, uri).of("run", 3)


def test_answers_are_counted_by_class(tmp_path: Path) -> None:
    """An exam that lacks a kind of answer has none of it; another seed, another run: nothing."""
    pl.DataFrame(SOUND).write_parquet(tmp_path / HITS)
    found = read(tmp_path)
    assert (found[""].ids.tolist(), found[""].pictures.tolist()) == ([4], [2])
    assert {kind: right.tolist() for kind, right in found[""].right.items()} == {
        "own": [1.0],
        "all": [0.0],
    }
    assert set(found["x"].right) == {"own"} and not found["x"].seen[0]
    files = HitFiles({"run": tmp_path.as_uri()})
    assert files.of("run", 4) == files.of("other", 3) == {}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("class_id", pl.Series([-1, 4, 7], dtype=pl.Int32)),
        ("class_id", pl.Series([None, 4, 7], dtype=pl.Int32)),
        ("class_id", pl.Series([[1], [2], [3]])),
        ("class_id", pl.Series(["a", "b", "c"])),
        ("exam", pl.Series([["a"], ["b"], ["c"]])),
        ("exam", pl.Series([None, "", ""])),
        ("seen", pl.Series([1, 0, 1])),
        ("seed_3/own", pl.Series([900, 0, 1])),
        ("seed_99999999999999999999/own", pl.Series([1, 0, 1])),
    ],
)
def test_other_columns_are_not_taken(tmp_path: Path, column: str, values: pl.Series) -> None:
    """Numbers where there should be answers would give an interval beyond 100."""
    pl.DataFrame({**SOUND, column: values}).write_parquet(tmp_path / HITS)
    assert (read(tmp_path) == {}) == (column in SOUND)


@given(damage=DAMAGE)
def test_damage_is_no_traceback(tmp_path: Path, damage: Damage) -> None:
    """Bytes of the file changed or cut at any place."""
    file = tmp_path / HITS
    pl.DataFrame(SOUND).write_parquet(file)
    file.write_bytes(damaged(file.read_bytes(), damage))
    read(tmp_path)


def test_what_is_large_or_no_file_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few bytes may hold many rows; a pipe would wait for ever."""
    pl.DataFrame(SOUND).write_parquet(tmp_path / HITS)
    for name, value in (("MOST_PICTURES", 2), ("MOST_BYTES", 100)):
        with monkeypatch.context() as patch:
            patch.setattr(hits, name, value)
            assert read(tmp_path) == {}
    (tmp_path / HITS).unlink()
    os.mkfifo(tmp_path / HITS)
    assert read(tmp_path) == {}


@pytest.mark.parametrize(
    ("folder", "uri", "asked"),
    [
        ("http://host/api/2.0/mlflow-artifacts/artifacts/x", "http://server:5000", 0),
        ("mlflow-artifacts:/1/run/artifacts", "sqlite:///a.db", 0),
        ("mlflow-artifacts:/1/run/artifacts", "http://server:5000", 3),
        ("ftp://host/x", "http://server:5000", 0),
        ("", "http://server:5000", 0),
    ],
)
def test_files_are_asked_for_where_a_server_keeps_them(
    monkeypatch: pytest.MonkeyPatch, folder: str, uri: str, asked: int
) -> None:
    """Never from an address that a store names, which would be sent the server's token."""
    calls: list[str] = []

    def fail(folder: str, uri: str) -> None:
        calls.append(folder)

    monkeypatch.setattr(hits, "_downloaded", fail)
    files = HitFiles({f"run{i}": folder for i in range(9)}, uri)
    assert all(files.of(f"run{i}", 0) == {} for i in range(9))
    assert len(calls) == asked  # three that fail are enough
