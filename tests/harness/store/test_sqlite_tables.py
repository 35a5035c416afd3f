"""A store that opens after any death: its tables are all there or none, and runs are never lost."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from harness.store.errors import StoreError
from harness.store.open import find_store, open_store
from reports.contract import ReportError
from reports.read import load_records

STEPS = str(files("mlflow.store") / "db_migrations")
# Opens a store, and is killed when its file is to be larger than so many bytes.
DYING = """
import resource, signal, sys
from harness.store.open import open_store
from mlflow.store.tracking import sqlalchemy_store

signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
open_store(sys.argv[1])
"""


def tables(path: Path) -> set[str]:
    """The names of a file's tables."""
    with closing(sqlite3.connect(path)) as file:
        return {name for (name,) in file.execute("SELECT name FROM sqlite_master")}


def half_made(path: Path) -> None:
    """What a kill in the middle of MLflow's own steps leaves: MLflow refuses it for good."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        early = list(ScriptDirectory(STEPS).walk_revisions())[-12].revision
        file.execute("UPDATE alembic_version SET version_num = ?", [early])
        file.execute("DELETE FROM experiments")
        file.execute("DROP TABLE model_versions")
        file.execute("CREATE TABLE _alembic_tmp_tags (key TEXT)")


def old_store(path: Path) -> None:
    """A store of MLflow's first version, with a run."""
    config = Config()
    config.set_main_option("script_location", STEPS)
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, list(ScriptDirectory(STEPS).walk_revisions())[-1].revision)
    engine.dispose()
    add_run(path)


def add_run(path: Path) -> None:
    """A run, in an experiment of its own."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute(
            "INSERT INTO experiments (experiment_id, name, lifecycle_stage) "
            "VALUES (1, 'small', 'active')"
        )
        file.execute(
            "INSERT INTO runs (run_uuid, status, experiment_id, user_id, start_time) "
            "VALUES ('mine', 'FINISHED', 1, 'me', 1)"
        )


def runs(path: Path) -> list[str]:
    """The ids of a file's runs."""
    with closing(sqlite3.connect(path)) as file:
        return [run for (run,) in file.execute("SELECT run_uuid FROM runs")]


@pytest.mark.faults
def test_a_driver_killed_while_it_makes_a_store(tmp_path: Path) -> None:
    """The file has no tables, nothing lies beside it, and the next run makes them."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    command_line = [sys.executable, "-c", DYING, uri, "100000"]
    died = subprocess.run(command_line, cwd=Path(__file__).parents[3], env={**os.environ})
    assert died.returncode == -signal.SIGXFSZ
    assert tables(tmp_path / "mlflow.db") == set()  # which rolls back what was not committed
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
    store = open_store(uri)
    store.client.create_run(store.create_experiment("small"))


def test_a_half_made_store_is_kept(uri: str, tmp_path: Path) -> None:
    """One line says how to go on; what was there is there, in a copy that is made once."""
    path, copy = tmp_path / "mlflow.db", tmp_path / "mlflow.db.before-upgrade"
    half_made(path)
    add_run(path)
    with pytest.raises(StoreError, match=r"move that back to mlflow\.db and try again") as error:
        open_store(uri)
    assert str(copy) in str(error.value) and "\n" not in str(error.value)
    assert runs(path) == runs(copy) == ["mine"]
    kept = copy.read_bytes()
    with pytest.raises(StoreError, match=r"move that back"):
        open_store(uri)
    assert copy.read_bytes() == kept


def test_an_upgrade_that_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy that the message names is the older store, which the next run upgrades."""
    path, copy = tmp_path / "mlflow.db", tmp_path / "mlflow.db.before-upgrade"
    old_store(path)
    before = tables(path)

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("alembic.ddl.impl.DefaultImpl.add_column", full)
        with pytest.raises(StoreError, match="No space left on device; as it was before"):
            open_store(f"sqlite:///{path}")
    assert tables(copy) == before
    # elsewhere: this process still has the file open that the copy would replace
    again = tmp_path / "again"
    again.mkdir()
    copy.rename(again / "mlflow.db")
    store = open_store(f"sqlite:///{again}/mlflow.db")
    assert store.client.get_run("mine").info.status == "FINISHED"
    assert [file.name for file in again.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("opener", [open_store, find_store])
@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize(
    "names", [["studies"], ["jobs"], ["experiments", "runs"], ["alembic_version", "customers"]]
)
def test_a_file_of_something_else_is_not_touched(
    tmp_path: Path, names: list[str], rows: bool, opener: Callable[[str], object]
) -> None:
    """Even where it holds no row, or its tables and a column are called as MLflow's are."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for name in names:
            file.execute(f"CREATE TABLE {name} (name TEXT, lifecycle_stage TEXT)")
            if rows:
                file.execute(f"INSERT INTO {name} VALUES ('x', 'active')")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"mlflow\.db is a database of another .* name another"):
        opener(f"sqlite:///{path}")
    with pytest.raises(ReportError, match="cannot be read as an MLflow store"):
        load_records("small", f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_store_of_a_newer_mlflow_is_not_touched(uri: str, tmp_path: Path) -> None:
    """MLflow refuses it; it holds no row, and is none of ours to make anew."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="ffffffffffff"):
        open_store(uri)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
