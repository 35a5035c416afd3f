"""MLflow's tables in an sqlite file: all of them or none, whatever dies while they are made.

MLflow makes them in some sixty steps, each of which is kept. A process that is killed between two
of them leaves a file that MLflow never opens again.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness.store.errors import StoreError
from harness.wording import one_line
from reports.contract import SQLITE

REVISION = "alembic_version"
# Columns of MLflow's first table that it has had in every version; Alembic moves a table's rows
# through one that is called like the second.
FIRST = ("experiments", "_alembic_tmp_experiments")
ITS_COLUMNS = {"experiment_id", "lifecycle_stage"}


@contextmanager
def whole_tables(uri: str, path: Path, wait: float) -> Iterator[None]:
    """Inside, MLflow opens a file that has all its tables, or brings them up to its version.

    A file without tables gets them in one transaction. One that has some is copied before MLflow
    upgrades it; the copy goes once the store is open.

    Args:
        uri: of the store.
        path: of its file, which is made if need be.
        wait: seconds for a file that is locked.

    Raises:
        StoreError: the file cannot be read or written, or is another application's, and was left
            as it is; or an upgrade failed: the line names the copy.
    """
    copy = path.with_name(f"{path.name}.before-upgrade")
    try:  # MLflow would try for a minute, and bury why
        with closing(sqlite3.connect(path, timeout=wait, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            file.execute("ROLLBACK")
            behind = _made_or_behind(file, uri, path)
            if behind and not copy.exists():
                # under its name there is a whole copy or none
                part = copy.with_name(f"{copy.name}.part")
                with closing(sqlite3.connect(part)) as target:
                    file.backup(target)
                part.replace(copy)
    except sqlite3.Error as error:
        raise StoreError(f"{uri}: cannot use the MLflow store: {error}") from error
    try:
        yield
    except Exception as error:
        if not behind:
            raise
        raise StoreError(
            f"{uri}: MLflow could not bring the store's tables up to its version: "
            f"{one_line(error)}; as it was before, the store is kept in {copy}: move that back to "
            f"{path.name} and try again, or use the version of MLflow that wrote it"
        ) from error
    if copy.exists():  # else nothing is written, as the folder may be read-only
        copy.unlink()


def _made_or_behind(file: sqlite3.Connection, uri: str, path: Path) -> bool:
    """Make the tables of a file that has none; else, whether MLflow has further steps to make.

    Raises:
        StoreError: they are another application's.
    """
    from alembic.script import ScriptDirectory

    query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
    tables = {name for (name,) in file.execute(query) if not name.startswith("sqlite_")}
    if not tables:
        _make(file, (path.resolve().parent / "mlruns").as_uri())
        return False
    query = "SELECT name FROM pragma_table_info(?)"
    if not any({name for (name,) in file.execute(query, [one])} >= ITS_COLUMNS for one in FIRST):
        raise StoreError(
            f"{uri}: {path} is a database of another application, and was left as it is: name "
            f"another file (MLFLOW_TRACKING_URI), or run the study in another folder"
        )
    steps = ScriptDirectory(str(files("mlflow.store") / "db_migrations"))
    at = file.execute(f"SELECT * FROM {REVISION}").fetchone() if REVISION in tables else None
    if at is None or at[0] == steps.get_current_head():  # as nearly always: no step has to be read
        return at is None
    return any(at[0] == step.revision for step in steps.walk_revisions())


def _make(file: sqlite3.Connection, artifacts: str) -> None:
    """Put all tables in the place of what is there, in one transaction, from a store in memory.

    Args:
        file: of the store.
        artifacts: address of MLflow's own experiment, which no study uses. MLflow writes it into
            SQL as it stands: one that is no address, of a folder with an apostrophe, fails.
    """
    from mlflow.store.tracking import sqlalchemy_store

    make: Callable[[str, str], Any] = sqlalchemy_store.SqlAlchemyStore
    with make(f"{SQLITE}:memory:", artifacts).engine.connect() as connection:
        connection.connection.driver_connection.backup(file)
