"""A store with a damaged sqlite file gives a report, or an error of one line."""

import contextlib
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.store import read_runs, require_store
from harness.store.errors import StoreError
from reports.errors import ReportError
from reports.render import format_report
from reports.report import make_report
from reports.study import load_records
from tests.reports.builder import StoreBuilder, make_scores

PAGE_SIZE = 4096  # of sqlite
TABLES = ("tags", "params", "latest_metrics", "runs", "experiments")


@pytest.fixture(scope="module")
def sound_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a store with a small study.

    It is a path, because Hypothesis would print the bytes of a failing example.
    """
    path = tmp_path_factory.mktemp("sound") / "mlflow.db"
    builder = StoreBuilder(name="small", seeds=(0, 1))
    for n_ctx in (1, 2, 4):
        results = {seed: make_scores(55 + n_ctx / 2 + seed) for seed in (0, 1)}
        builder.add_run({"generator.n_ctx": n_ctx}, results)
    builder.add_run({}, {seed: make_scores(50.0 + seed) for seed in (0, 1)}, control="no_synthetic")
    builder.write(f"sqlite:///{path}")
    return path


def check_report_or_error(path: Path) -> bool:
    """Return True if a report can be made, and assert that the error is one line otherwise."""
    try:
        report = make_report(load_records("small", f"sqlite:///{path}"))
    except ReportError as error:
        assert "\n" not in str(error)
        return False
    runs = report.study.rows["run_id"].drop_nulls().unique().to_list()
    report.study.histories.load(f"selection/{report.study.objective}", runs)
    for form in ("terminal", "markdown", "latex", "csv"):
        format_report(form, report).encode()
    return True


def damage_bytes(content: bytes, seed: int) -> bytes:
    """Replace random bytes or bits of a file, for even seeds only in pages that have rows."""
    rng = random.Random(seed)
    starts = range(0, len(content), PAGE_SIZE)
    pages = {start: content[start : start + PAGE_SIZE] for start in starts}
    row_pages = [start for start, page in pages.items() if b"/seed_1" in page]
    row_pages += [start for start, page in pages.items() if start and b"ship." in page]
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 5, 50, 200, 1000))):
        if seed % 2:
            position = rng.randrange(len(damaged))
        else:
            position = rng.choice(row_pages) + rng.randrange(PAGE_SIZE)
        if rng.random() < 0.5:
            damaged[position] ^= 1 << rng.randrange(8)
        else:
            damaged[position] = rng.randrange(256)
    return bytes(damaged)


def alter_cells(path: Path, seed: int) -> None:
    """Replace random cells of a database by values of any type, and by text that is not UTF-8."""
    rng = random.Random(seed)
    values: list[Any] = [None, 1, -1.5, 1e300, 2**62, b"\xff\x00", "", "x", "[", "{}", "NaN"]
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        for _ in range(rng.choice((1, 5, 50))):
            table = rng.choice(TABLES)
            column = rng.choice([row[1] for row in database.execute(f"PRAGMA table_info({table})")])
            rowid = rng.choice([row[0] for row in database.execute(f"SELECT rowid FROM {table}")])
            statement = f"UPDATE OR IGNORE {table} SET {column} = "
            with contextlib.suppress(sqlite3.IntegrityError):  # a duplicate or null key
                if rng.random() < 0.3:
                    database.execute(
                        f"{statement} CAST(x'61ff62' AS TEXT) WHERE rowid = ?", [rowid]
                    )
                else:
                    database.execute(f"{statement} ? WHERE rowid = ?", [rng.choice(values), rowid])
        database.commit()


def check_damaged_file(sound_store: bytes, path: Path, seed: int) -> bool:
    """Damage a store in its bytes or, for every third seed, in its cells, and make a report."""
    if seed % 3:
        path.write_bytes(damage_bytes(sound_store, seed))
    else:
        path.write_bytes(sound_store)
        alter_cells(path, seed)
    return check_report_or_error(path)


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        ("UPDATE tags SET value = x'00'", "ship.state"),
        ("UPDATE params SET value = x'ff'", "shots"),
        ("UPDATE latest_metrics SET value = 'much'", "test/new/seed_1"),
        ("UPDATE latest_metrics SET key = x'ff00'", "test/new/seed_1"),
        ("UPDATE tags SET value = CAST(x'ff' AS TEXT)", "ship.state"),
    ],
)
def test_a_damaged_row_is_a_one_line_error(
    sound_store: Path, tmp_path: Path, edit: str, key: str
) -> None:
    """A cell has bytes instead of text, text instead of a number, or text that is not UTF-8."""
    path = tmp_path / "mlflow.db"
    path.write_bytes(sound_store.read_bytes())
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"{edit} WHERE key = ?", [key])
        database.commit()
    with pytest.raises(StoreError) as raised:
        read_runs("small", f"sqlite:///{path}")
    text = str(raised.value)
    assert text.startswith(f"sqlite:///{path}: ") and len(text.splitlines()) == 1


def test_a_schema_that_is_not_text_is_a_one_line_error(sound_store: Path, tmp_path: Path) -> None:
    """The error message names the file."""
    path = tmp_path / "mlflow.db"
    path.write_bytes(
        sound_store.read_bytes().replace(b"CREATE TABLE alembic", b"CREATE TABL\xff alembic")
    )
    with pytest.raises(StoreError) as raised:
        require_store(f"sqlite:///{path}")
    assert str(raised.value).startswith(f"{path}: cannot read the file as an MLflow store: ")


@example(198582)  # bytes as the name of a metric
@given(st.integers(0, 2**32))
def test_damage_anywhere_gives_a_report_or_a_one_line_error(
    sound_store: Path, tmp_path: Path, seed: int
) -> None:
    """Some damage has no effect, and other damage is an error."""
    check_damaged_file(sound_store.read_bytes(), tmp_path / "mlflow.db", seed)
