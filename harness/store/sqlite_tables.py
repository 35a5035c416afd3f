"""Create or upgrade MLflow's tables in an sqlite file.

If the process is killed while it does this, the file has either all of the changes or none.
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
# Returns the name of any table. Tables that SQLite itself creates do not count.
FIRST_TABLE_QUERY = "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' LIMIT 1"
# Returns the revision of MLflow's tables. Other applications may have a table alembic_version, too.
# The join reads columns of MLflow's other tables, so that the query fails without them.
REVISION_QUERY = (
    "SELECT version_num, lifecycle_stage FROM alembic_version"
    " LEFT JOIN (SELECT e.lifecycle_stage, r.run_uuid FROM experiments e, runs r LIMIT 1)"
)


def create_or_upgrade_tables(uri: str, path: Path) -> None:
    """Create the tables of a new sqlite store, or upgrade those of an older MLflow.

    MLflow creates its tables in about sixty steps and commits each. If the process were killed
    between two of them, the file could never be opened again. New tables are therefore written in
    one transaction, and an upgrade is made in a copy that then replaces the file.

    Only one process may call this function for a file at a time: two could both find an empty file
    and create its tables. The caller must hold a lock, as open_store does for processes of one
    machine.

    Args:
        uri: Address of the store.
        path: File of the store. If it does not exist, an empty file is created, which remains if an
            error follows.

    Raises:
        StoreError: The file cannot be read or written, belongs to another application, or cannot be
            upgraded. Its tables are then unchanged.
        Exception: MLflow fails while it builds the new tables in memory, before they are copied to
            the file. open_store turns this into a StoreError.
    """
    from mlflow.store.db import utils

    latest = utils._get_latest_schema_revision()  # type: ignore[no-untyped-call]
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as database:
            # Test whether the file can be written. MLflow would retry for a minute, and then report
            # an error without the cause.
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
            if database.execute(FIRST_TABLE_QUERY).fetchone() is None:
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
    """Upgrade a copy of a store with MLflow's own tools, and replace the store with the copy.

    The store is locked during the upgrade. A process that had it open before gets an error from
    SQLite at its next write, because the file was replaced. In WAL mode, the upgrade itself fails
    as long as another process has the store open.

    Args:
        database: Connection to the store. The write lock taken here is held until the caller closes
            the connection.
        uri: Address of the store.
        path: File of the store, not a link.

    Raises:
        StoreError: MLflow cannot upgrade the copy, or another process has replaced the store first.
        sqlite3.Error: The store is in use.
    """
    from mlflow.store.db import utils

    folder = path.with_name(f"{path.name}.upgrade")
    inode = path.stat().st_ino
    (journal_mode,) = database.execute("PRAGMA journal_mode").fetchone()
    # Switch WAL mode off: its log file would outlive the database file that is replaced.
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
        # `database` has a write transaction, so it cannot be the source of a backup
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        engine = utils.create_sqlalchemy_engine(f"{SQLITE}{copy}")  # type: ignore[no-untyped-call]
        try:
            utils._upgrade_db(engine)  # type: ignore[no-untyped-call]
        finally:
            engine.dispose()
        with closing(sqlite3.connect(copy)) as target:
            target.execute(f"PRAGMA journal_mode = {journal_mode}")
        shutil.copymode(path, copy)
        copy.replace(path)
    except Exception as error:
        database.execute("ROLLBACK")
        database.execute(f"PRAGMA journal_mode = {journal_mode}")
        raise StoreError(
            f"{uri}: MLflow could not upgrade the store, which was not changed: "
            f"{find_cause(error, uri)}. Remove this cause, or use the MLflow version that wrote "
            "the store"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _create_tables(database: sqlite3.Connection, artifacts_uri: str) -> None:
    """Create all tables in one transaction, as a copy of a store that MLflow creates in memory.

    Args:
        database: Connection to the empty store.
        artifacts_uri: Artifact URI of MLflow's default experiment, which no study uses. The URI
            must not contain an apostrophe, because MLflow inserts it into SQL without escaping.
    """
    from mlflow.store.tracking import sqlalchemy_store

    store_class: Callable[[str, str], Any] = sqlalchemy_store.SqlAlchemyStore
    store_in_memory = store_class(f"{SQLITE}:memory:", artifacts_uri)
    with store_in_memory.engine.connect() as connection:
        connection.connection.driver_connection.backup(database)
