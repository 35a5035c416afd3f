"""Tables of an sqlite store are created and upgraded atomically, and no run is lost."""

import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from unittest.mock import Mock

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from harness.store import sqlite_tables
from harness.store.errors import StoreError
from harness.store.open import open_existing_store, open_store
from reports.errors import ReportError
from reports.study import load_records

MIGRATIONS = str(files("mlflow.store") / "db_migrations")
DISK_FULL = OSError("No space left on device")
# Opens a store. The process is killed, or its write fails, when a file would exceed a size.
OPEN_WITH_SIZE_LIMIT = """
import resource, signal, sys
from harness.store.open import open_store
from mlflow.store.tracking import sqlalchemy_store

signal.signal(signal.SIGXFSZ, getattr(signal, sys.argv[3]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
open_store(sys.argv[1])
"""


def list_tables(path: Path) -> set[str]:
    """Return the names of a file's tables."""
    with closing(sqlite3.connect(path)) as file:
        return {name for (name,) in file.execute("SELECT name FROM sqlite_master")}


def create_old_store(path: Path) -> None:
    """Create a store with the tables of MLflow's first version and a run."""
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, list(ScriptDirectory(MIGRATIONS).walk_revisions())[-1].revision)
    engine.dispose()
    add_run(path)


def add_run(path: Path) -> None:
    """Add a run in a new experiment."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute(
            "INSERT INTO experiments (experiment_id, name, lifecycle_stage) "
            "VALUES (1, 'small', 'active')"
        )
        file.execute(
            "INSERT INTO runs (run_uuid, status, experiment_id, user_id, start_time) "
            "VALUES ('mine', 'FINISHED', 1, 'me', 1)"
        )


def list_runs(path: Path) -> list[str]:
    """Return the IDs of a file's runs."""
    with closing(sqlite3.connect(path)) as file:
        return [run for (run,) in file.execute("SELECT run_uuid FROM runs")]


def open_with_size_limit(path: Path, max_bytes: int, action: str = "SIG_DFL") -> int:
    """Open a store in another process that cannot write larger files, and return its exit code.

    Args:
        path: Path of the store's file.
        max_bytes: Largest size of a file.
        action: Action of the signal for larger files: SIG_DFL kills the process, and with SIG_IGN
            its write fails.
    """
    arguments = [f"sqlite:///{path}", str(max_bytes), action]
    process = subprocess.run(
        [sys.executable, "-c", OPEN_WITH_SIZE_LIMIT, *arguments], cwd=Path(__file__).parents[3]
    )
    return process.returncode


@pytest.mark.faults
def test_driver_killed_while_creating_a_store(tmp_path: Path) -> None:
    """The file has no tables, and the next run creates them."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert open_with_size_limit(tmp_path / "mlflow.db", 100_000) == -signal.SIGXFSZ
    # reading the file rolls back the transaction that was not committed
    assert list_tables(tmp_path / "mlflow.db") == set()
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
    store = open_store(uri)
    store.client.create_run(store.get_or_create_experiment("small"))


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    """Create a store with the tables of MLflow's first version and a run, and return its path."""
    create_old_store(tmp_path / "mlflow.db")
    return tmp_path / "mlflow.db"


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_older_store_is_upgraded(old_store: Path, mode: str) -> None:
    """Runs, journal mode, permissions and links are kept, and temporary files are removed."""
    with closing(sqlite3.connect(old_store)) as file:
        file.execute(f"PRAGMA journal_mode = {mode}")
    old_store.chmod(0o640)
    old_store.with_name("link.db").symlink_to(old_store)
    stale_journal = old_store.with_name("mlflow.db.upgrade") / "mlflow.db-journal"
    stale_journal.parent.mkdir()
    stale_journal.write_bytes(b"of an upgrade that was killed")
    store = open_store(f"sqlite:///{old_store.parent}/link.db")
    assert store.client.get_run("mine").info.status == "FINISHED"
    store.client.create_run(store.get_or_create_experiment("another"))
    assert len(list_runs(old_store)) == 2 and stat.S_IMODE(old_store.stat().st_mode) == 0o640
    with closing(sqlite3.connect(old_store)) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == (mode,)
    assert [file for file in old_store.parent.glob("*upgrade*")] == []


@pytest.mark.faults
def test_killed_or_failed_upgrade_changes_nothing(old_store: Path) -> None:
    """The next run upgrades the unchanged file."""
    before = old_store.read_bytes()
    exit_code = open_with_size_limit(old_store, len(before) + 50_000)
    assert exit_code == -signal.SIGXFSZ and old_store.read_bytes() == before
    exit_code = open_with_size_limit(old_store, len(before) + 50_000, action="SIG_IGN")
    assert exit_code == 1 and old_store.read_bytes() == before
    store = open_store(f"sqlite:///{old_store}")
    assert store.client.get_run("mine").info.status == "FINISHED"
    assert [file.name for file in old_store.parent.iterdir()] == ["mlflow.db"]


def test_failed_upgrade_keeps_the_journal_mode(
    old_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store in WAL mode stays in WAL mode."""
    with closing(sqlite3.connect(old_store)) as file:
        file.execute("PRAGMA journal_mode = wal")
    monkeypatch.setattr("alembic.ddl.impl.DefaultImpl.add_column", Mock(side_effect=DISK_FULL))
    with pytest.raises(StoreError, match="not changed: No space left on device"):
        open_store(f"sqlite:///{old_store}")
    with closing(sqlite3.connect(old_store)) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_only_a_missing_table_means_another_application(
    old_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message of any other error of SQLite, such as a lock, is not changed."""
    monkeypatch.setattr(sqlite_tables, "REVISION_QUERY", "SELECT")
    with pytest.raises(StoreError, match="cannot use the MLflow store: incomplete input"):
        open_store(f"sqlite:///{old_store}")


def test_failed_upgrade_is_one_line_error(old_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's file is unchanged."""
    before = old_store.read_bytes()
    monkeypatch.setattr("alembic.ddl.impl.DefaultImpl.add_column", Mock(side_effect=DISK_FULL))
    with pytest.raises(StoreError, match=r"not changed: No space left on device\. Remove") as error:
        open_store(f"sqlite:///{old_store}")
    assert "\n" not in str(error.value) and old_store.read_bytes() == before
    assert [file.name for file in old_store.parent.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_upgrade_loses_no_write_of_another_process(
    old_store: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the other process has the file open, the upgrade fails in WAL mode.

    Without WAL mode the upgrade succeeds, and a later write of the other process fails.
    """
    monkeypatch.setattr(sqlite_tables, "LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(old_store, isolation_level=None)) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("UPDATE runs SET status = 'FAILED'")
        if mode == "wal":
            with pytest.raises(StoreError, match="database is locked"):
                open_store(f"sqlite:///{old_store}")
        else:
            open_store(f"sqlite:///{old_store}")
            with pytest.raises(sqlite3.OperationalError, match="readonly database"):
                other.execute("UPDATE runs SET status = 'FINISHED'")
    assert open_store(f"sqlite:///{old_store}").client.get_run("mine").info.status == "FAILED"


@pytest.mark.parametrize("opener", [open_store, open_existing_store])
@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize(
    "names", [["studies"], ["jobs"], ["experiments", "runs"], ["alembic_version", "customers"]]
)
def test_database_of_another_application_is_not_changed(
    tmp_path: Path, names: list[str], rows: bool, opener: Callable[[str], object]
) -> None:
    """This also applies to empty tables, and to tables and columns with MLflow's names."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for name in names:
            file.execute(f"CREATE TABLE {name} (name TEXT, lifecycle_stage TEXT)")
            if rows:
                file.execute(f"INSERT INTO {name} VALUES ('x', 'active')")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"mlflow\.db is a database of another .* to another file"):
        opener(f"sqlite:///{path}")
    with pytest.raises(ReportError, match="cannot read the file as an MLflow store"):
        load_records("small", f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]


def test_store_of_newer_mlflow_is_not_changed(uri: str, tmp_path: Path) -> None:
    """MLflow refuses it, and no tables are created."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="ffffffffffff"):
        open_store(uri)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
