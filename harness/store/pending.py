"""Changes that wait for a store that is away: rows of one sqlite file for all studies.

The rollback journal is sqlite's default: WAL needs memory that its users share, which a cache
folder on a network file system has not. The file is never removed: a process that had it open
would spoil the journal of the one that takes its place.
"""

import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from harness.store.changes import Changes
from harness.store.errors import StoreError
from reports.contract import store_key

FOLDER, FILE = "outbox", "pending.sqlite3"
FORMAT = 1
BUSY_SECONDS = 10.0
# bytes; no row is longer: JSON makes a file's MOST_BYTES a third longer, and a batch of the longest
# tags and params that MLflow takes has 17 MB
LONGEST = 64 * 2**20

TABLE = """CREATE TABLE changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT, uri TEXT NOT NULL, study TEXT NOT NULL,
    experiment TEXT NOT NULL, driver TEXT NOT NULL, changes TEXT NOT NULL,
    left_out INTEGER NOT NULL DEFAULT 0)"""
_STUDY = "uri = :uri AND study = :study AND NOT left_out"


class Pending:
    """What waits of one study, oldest first; other processes may use the file, too, threads not.

    waiting: number of the row, and the changes in it. left_out: how many rows of drivers that were
    replaced have just been set aside. experiment_id, driver: see __init__.
    """

    def __init__(
        self, path: Path, uri: str, study: str, experiment_id: str, driver: str, last: str
    ) -> None:
        """Load what the study's last driver left; set aside what is out of date.

        Where another driver has run the study since, that one has run again what the changes are
        about: sent now, they would be there twice, or go over newer ones. So has one in another
        experiment of the name, where the store was made anew.

        Args:
            path: of the file, which need not be there.
            uri: of the store that the changes are for.
            study: name of the experiment.
            experiment_id: its id.
            driver: token of this driver.
            last: token of the driver that has last changed a run of the study.

        Raises:
            StoreError: the file cannot be used, or a row is damaged; nothing was changed.
        """
        self.path, self.experiment_id, self.driver = path, experiment_id, driver
        self.waiting: deque[tuple[int, Changes]] = deque()
        self.left_out = 0
        self._row = {
            "uri": store_key(uri),
            "study": study,
            "experiment": experiment_id,
            "driver": driver,
        }
        if path.exists():
            with changing(path) as base:
                old = f"{_STUDY} AND (driver != :last OR experiment != :experiment)"
                aside = f"UPDATE changes SET left_out = 1 WHERE {old}"
                self.left_out = base.execute(aside, {**self._row, "last": last}).rowcount
                self._load(base)

    def append(self, changes: Changes) -> None:
        """Add changes; they are on disk when this returns.

        Raises:
            StoreError: they cannot be written, and the file is as it was.
        """
        row = {**self._row, "changes": changes.model_dump_json()}
        values = ", ".join(f":{name}" for name in row)
        with changing(self.path) as base:
            insert = f"INSERT INTO changes ({', '.join(row)}) VALUES ({values})"
            number = base.execute(insert, row).lastrowid
        self.waiting.append((number or 0, changes))

    def done(self) -> None:
        """The oldest changes have reached the store.

        Raises:
            StoreError: their row cannot be removed; sent once more, they change nothing.
        """
        with changing(self.path) as base:
            base.execute("DELETE FROM changes WHERE number = ?", [self.waiting[0][0]])
        self.waiting.popleft()

    @property
    def way_out(self) -> str:
        """The command by which somebody goes on without what waits; nothing is thrown away."""
        uri, study = (self._row[key].replace("'", "''") for key in ("uri", "study"))
        change = f"UPDATE changes SET left_out = 1 WHERE uri = '{uri}' AND study = '{study}'"
        return f'sqlite3 {self.path} "{change}"'

    def _load(self, base: sqlite3.Connection) -> None:
        query = f"SELECT number, changes FROM changes WHERE {_STUDY} ORDER BY number"
        for number, text in base.execute(query, self._row):
            try:
                self.waiting.append((number, Changes.model_validate_json(text)))
            except ValidationError as error:
                raise StoreError(
                    f"{self.path}: write {number} is damaged ({error.errors()[0]['msg']}); it was "
                    f"left as it is: repair it, or go on without what waits: {self.way_out}"
                ) from error


def waiting_note(uri: str, study: str, cache_dir: Path) -> str | None:
    """A line for whoever plans with a store that lacks what waits on disk; None: nothing does.

    Args:
        uri: address of the store.
        study: name of the experiment.
        cache_dir: holds the folder in which changes wait.
    """
    path = cache_dir / FOLDER / FILE
    if not path.exists():
        return None
    query = f"SELECT EXISTS (SELECT 1 FROM changes WHERE {_STUDY})"
    try:
        with changing(path) as base:
            found = base.execute(query, {"uri": store_key(uri), "study": study}).fetchone()
    except StoreError as error:  # a run will be refused for it; a plan can be made
        return str(error)
    if not found[0]:
        return None
    return (
        f"writes of an earlier run wait in {path}: this plan lacks them; a run sends them first, "
        f"unless another driver has run the study since"
    )


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
            (version,) = base.execute("PRAGMA user_version").fetchone()
            if version == 0:
                base.execute(TABLE)
                base.execute(f"PRAGMA user_version = {FORMAT}")
            elif version != FORMAT:
                raise StoreError(f"{path}: written by another version of ship-sweep")
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
