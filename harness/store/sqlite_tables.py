"""Create or upgrade MLflow's tables in an sqlite file.

If the driver is killed meanwhile, the file is unchanged: it never has only some of the tables.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.store.address import SQLITE
from harness.store.errors import StoreError, find_cause

LOCK_SECONDS = 5.0  # time to wait for a locked sqlite file
FIRST_TABLE = "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' LIMIT 1"
# Reads the revision of MLflow's tables. The query fails on a database of another application.
REVISION_QUERY = (
    "SELECT version_num, lifecycle_stage FROM alembic_version"
    " LEFT JOIN (SELECT e.lifecycle_stage, r.run_uuid FROM experiments e, runs r LIMIT 1)"
)


def prepare_tables(uri: str, path: Path) -> None:
    """Create the tables of a new sqlite store, or upgrade those of an older MLflow.

    MLflow creates its tables in about sixty steps and commits each. If the driver were killed
    between two of them, the file could never be opened again. New tables are therefore written in
    one transaction, and an upgrade is made in a copy that then replaces the file.

    Args:
        uri: Address of the store.
        path: File of the store. It is created if it does not exist.

    Raises:
        StoreError: The file cannot be read or written, belongs to another application, or cannot be
            upgraded. The file is then unchanged.
    """
    from mlflow.store.db import utils

    latest = utils._get_latest_schema_revision()  # type: ignore[no-untyped-call]
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as database:
            # Test whether the file can be written. MLflow would try for a minute, and hide why not.
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
            if database.execute(FIRST_TABLE).fetchone() is None:
                _create_tables(database, (path.resolve().parent / "mlruns").as_uri())
            elif _read_revision(database, uri, path) != latest:
                _replace_by_upgraded(database, uri, path.resolve())
    except sqlite3.Error as error:
        raise StoreError(f"{uri}: cannot use the MLflow store: {error}") from error


def _read_revision(database: sqlite3.Connection, uri: str, path: Path) -> str | None:
    """Return the revision of the store's tables, or None if the store does not contain it.

    Raises:
        StoreError: The file belongs to another application.
        sqlite3.Error: The file cannot be read, e.g. because it is locked.
    """
    try:
        row = database.execute(REVISION_QUERY).fetchone()
    except sqlite3.OperationalError as error:
        if "no such" not in str(error):  # "no such table", "no such column"
            raise
        raise StoreError(
            f"{uri}: {path} is a database of another application and was not changed. Set "
            f"MLFLOW_TRACKING_URI to another file, or run the study in another folder"
        ) from error
    return row and str(row[0])


def _replace_by_upgraded(database: sqlite3.Connection, uri: str, path: Path) -> None:
    """Upgrade a copy of a store with MLflow's own tools, and replace the store by the copy.

    The store is locked during the upgrade. A process that had the store open gets an error from
    SQLite at its next write, because the file was replaced.

    Args:
        database: Connection to the store. Its lock is released when the connection is closed.
        uri: Address of the store.
        path: File of the store, not a link.

    Raises:
        StoreError: MLflow cannot upgrade the copy, or another process has replaced the store first.
    """
    from mlflow.store.db import utils

    folder = path.with_name(f"{path.name}.upgrade")
    inode = path.stat().st_ino
    (mode,) = database.execute("PRAGMA journal_mode").fetchone()
    # leave WAL mode: its separate file would remain when the database file is replaced
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("BEGIN IMMEDIATE")
    if path.stat().st_ino != inode:
        raise StoreError(
            f"{uri}: another process has just upgraded the store. Run the same command again"
        )
    shutil.rmtree(folder, ignore_errors=True)  # left by an upgrade that was killed
    try:
        folder.mkdir(mode=0o700)
        copy = folder / path.name
        # another connection, because one with a write transaction cannot be the backup's source
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        engine = utils.create_sqlalchemy_engine(f"{SQLITE}{copy}")  # type: ignore[no-untyped-call]
        try:
            utils._upgrade_db(engine)  # type: ignore[no-untyped-call]
        finally:
            engine.dispose()
        with closing(sqlite3.connect(copy)) as target:
            target.execute(f"PRAGMA journal_mode = {mode}")
        shutil.copymode(path, copy)
        copy.replace(path)
    except Exception as error:
        database.execute("ROLLBACK")
        database.execute(f"PRAGMA journal_mode = {mode}")
        raise StoreError(
            f"{uri}: MLflow could not upgrade the store, which was not changed: "
            f"{find_cause(error, uri)}. Use the MLflow version that wrote it"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _create_tables(database: sqlite3.Connection, artifacts_uri: str) -> None:
    """Create all tables in one transaction, as a copy of a store that MLflow creates in memory.

    Args:
        database: Connection to the empty store.
        artifacts_uri: Artifact URI of MLflow's default experiment, which no study uses. It must not
            contain an apostrophe, because MLflow inserts it into SQL without escaping.
    """
    from mlflow.store.tracking import sqlalchemy_store

    make_store: Callable[[str, str], Any] = sqlalchemy_store.SqlAlchemyStore
    with make_store(f"{SQLITE}:memory:", artifacts_uri).engine.connect() as connection:
        connection.connection.driver_connection.backup(database)
