"""The file of waiting writes: one sqlite table for all studies, changed in synced transactions.

The rollback journal is sqlite's default: WAL needs memory that its users share, which a cache
folder on a network file system has not. The file is never removed: a process that had it open
would spoil the journal of the one that takes its place.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from harness.store.errors import StoreError

FORMAT = 1
BUSY_SECONDS = 10.0
# bytes; no row is longer: a batch of the longest tags and params that MLflow takes has 17 MB
LONGEST = 64 * 2**20

# done: NULL while the write waits, then the id of the run that it made, or ''
TABLE = """CREATE TABLE writes (
    number INTEGER PRIMARY KEY AUTOINCREMENT, uri TEXT NOT NULL, study TEXT NOT NULL,
    experiment TEXT NOT NULL, driver TEXT NOT NULL, kind TEXT NOT NULL, arguments TEXT NOT NULL,
    done TEXT, left_out INTEGER NOT NULL DEFAULT 0)"""


@contextmanager
def changing(path: Path) -> Iterator[sqlite3.Connection]:
    """Change the file, which is made if need be: all of it or nothing.

    Raises:
        StoreError: it cannot be used: one line that names it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, BUSY_SECONDS, isolation_level=None, uri=True)) as base:
            base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
            base.execute("PRAGMA trusted_schema = OFF")
            base.execute("PRAGMA synchronous = FULL")
            base.execute("BEGIN IMMEDIATE")
            _prepare(base, path)
            yield base
            base.execute("COMMIT")
    except (sqlite3.OperationalError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"{path}: cannot be used: {why}") from error
    except sqlite3.Error as error:
        raise StoreError(
            f"{path}: is damaged ({error}); it was left as it is: repair it, or, while no study "
            f"runs, move it away"
        ) from error


def _prepare(base: sqlite3.Connection, path: Path) -> None:
    (version,) = base.execute("PRAGMA user_version").fetchone()
    if version == 0:
        base.execute(TABLE)
        base.execute(f"PRAGMA user_version = {FORMAT}")
    elif version != FORMAT:
        raise StoreError(f"{path}: written by another version of ship-sweep")
