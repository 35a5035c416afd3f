"""Opens the MLflow store, and finds or makes a study's experiment in it.

An sqlite file has all of MLflow's tables or none, whatever dies while they are made.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.machine import environment, locked
from harness.store.changes import Changes, send
from harness.store.errors import READS, StoreError, again, store_errors, wrapped
from harness.wording import one_line
from reports.contract import SQLITE, address_fault, reach_database

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

NOISY = ("mlflow", "alembic", "sqlalchemy", "urllib3", "git")
LOGGED_TWICE = ("mlflow.store.db.utils", "mlflow.utils.databricks_utils")
LOCK_SECONDS = 5.0  # that a locked sqlite file is waited for
REVISION = "alembic_version"
# MLflow's first table, by columns that it has had in every version; Alembic moves a table's rows
# through one that is called like the second.
FIRST_TABLE = (
    "SELECT 1 FROM sqlite_master AS its JOIN pragma_table_info(its.name) AS has"
    " WHERE its.name IN ('experiments', '_alembic_tmp_experiments')"
    " AND has.name IN ('experiment_id', 'lifecycle_stage') GROUP BY its.name HAVING count(*) = 2"
)
CLIENT_ENVIRONMENT = {
    # MLflow's own retries make a run again without looking for it, and hold Tune's loop up
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PGCONNECT_TIMEOUT": "15",  # libpq's, in seconds
    # at the end of each run it would print the address, with the store's password, to stdout
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# MLflow's UI else takes an experiment for one of language-model traces
SHOWN_AS = {"mlflow.experimentKind": "custom_model_development"}


@dataclass(eq=False)
class Store:
    """An open MLflow store.

    made: EXPERIMENT/KEY -> the store's id, of runs that were made (Changes.run).
    """

    uri: str
    client: "MlflowClient"
    made: dict[str, str] = field(default_factory=dict, init=False)

    def write(self, changes: Changes) -> None:
        """Write changes to their run.

        Raises:
            StoreError: the store refuses them.
        """
        with store_errors(self.uri):
            send(self.client, changes, self.made)

    def read(self, ask: Callable[["MlflowClient"], T]) -> T:
        """Call the store, once it has everything that was written, and give its answer.

        Also for changes that no Changes can say, such as an experiment's name: they are made at
        once, and never wait on disk.

        Raises:
            StoreError: it refuses, or does not answer.
        """

        def patiently(name: str, call: Callable[[], Any]) -> Any:
            return again(self.uri, call) if name.startswith(READS) else call()

        with store_errors(self.uri):
            return ask(wrapped(self.client, patiently))

    def experiment(self, name: str) -> str | None:
        """Id of an experiment, None if there is none.

        Raises:
            StoreError: it was deleted, which keeps its name taken.
        """
        experiment = self.read(lambda client: client.get_experiment_by_name(name))
        if experiment is None:
            return None
        if experiment.lifecycle_stage != "active":
            raise StoreError(
                f"{self.uri}: experiment {name!r} was deleted; bring it back with `mlflow "
                f"experiments restore --experiment-id {experiment.experiment_id}`, or give the "
                f"study another name"
            )
        return str(experiment.experiment_id)

    def create_experiment(self, name: str) -> str:
        """Id of an experiment, which is made if need be; a server decides where its files go."""
        path = _sqlite_path(self.uri)
        location = (path.parent / "mlartifacts" / name).as_uri() if path else None

        def make() -> str:
            return self.experiment(name) or self.client.create_experiment(name, location, SHOWN_AS)

        with store_errors(self.uri):
            return str(again(self.uri, make))


def store_uri(given: str | None) -> str:
    """Address of the store: as given, else MLFLOW_TRACKING_URI, else mlflow.db of this directory.

    A relative path of sqlite becomes absolute: a Ray worker has another working directory.

    Raises:
        StoreError: an address that is not well formed, or of sqlite with options.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    path = _sqlite_path(uri)
    absolute = f"{SQLITE}{path}" if path else uri
    fault = address_fault(uri) or address_fault(absolute)
    if fault is not None:
        raise StoreError(fault)
    return absolute


def find_store(uri: str) -> Store | None:
    """A store that is there already, see open_store; None where its sqlite file is not there."""
    path = _sqlite_path(store_uri(uri))
    return open_store(uri) if path is None or path.exists() else None


def open_store(uri: str) -> Store:
    """Open a store, and make its schema before any other process touches it.

    Args:
        uri: MLflow tracking URI; a missing sqlite file is made.

    Raises:
        StoreError: an address that is not well formed, or a store that is unreadable, locked, no
            database, unreachable, or of another MLflow version.
    """
    uri = store_uri(uri)
    path = _sqlite_path(uri)
    if path is not None and not path.parent.is_dir():
        raise StoreError(f"{uri}: the folder {path.parent} does not exist")
    if path is not None and path.is_dir():
        raise StoreError(f"{uri}: {path} is a folder, not an sqlite file")
    with ExitStack() as stack:
        stack.enter_context(store_errors(uri))
        stack.enter_context(environment(CLIENT_ENVIRONMENT))
        from mlflow.tracking import MlflowClient

        quieten(logging.WARNING)  # after the import, which sets MLflow's level
        if path is not None:
            stack.enter_context(locked(f"{path.resolve()} is opened", wait=True))
            stack.enter_context(whole_tables(uri, path))
        reach_database(uri)
        store = Store(uri, MlflowClient(tracking_uri=uri))
        store.read(lambda client: client.search_experiments(max_results=1))
    return store


def quieten(level: int) -> None:
    """Set the level of the loggers of MLflow and of what it stands on.

    Unless all of it is wanted, what MLflow logs in addition to an error that it raises is not: a
    traceback of a database's (a full disk, say), and Databricks' quotes of the store's address.
    """
    for name in NOISY:
        logging.getLogger(name).setLevel(level)
    errors = logging.CRITICAL if level > logging.INFO else level
    for name in LOGGED_TWICE:
        logging.getLogger(name).setLevel(errors)


def _sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


@contextmanager
def whole_tables(uri: str, path: Path) -> Iterator[None]:
    """Inside, MLflow opens a file that has all its tables, or brings them up to its version.

    A file without tables gets them in one transaction: MLflow makes them in some sixty steps, each
    of which is kept, and never again opens a file whose maker was killed between two of them. A
    file that has some is copied before MLflow upgrades it; the copy goes once the store is open.

    Args:
        uri: of the store.
        path: of its file, which is made if need be.

    Raises:
        StoreError: the file cannot be read or written, or is another application's, and was left
            as it is; or an upgrade failed: the line names the copy.
    """
    copy = path.with_name(f"{path.name}.before-upgrade")
    try:  # MLflow would try for a minute, and bury why
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as file:
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

    names = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
    if all(name.startswith("sqlite_") for name in names):  # sqlite's own
        _make(file, (path.resolve().parent / "mlruns").as_uri())
        return False
    if file.execute(FIRST_TABLE).fetchone() is None:
        raise StoreError(
            f"{uri}: {path} is a database of another application, and was left as it is: name "
            f"another file (MLFLOW_TRACKING_URI), or run the study in another folder"
        )
    at = file.execute(f"SELECT * FROM {REVISION}").fetchone() if REVISION in names else None
    steps = ScriptDirectory(str(files("mlflow.store") / "db_migrations")).walk_revisions()
    _, *earlier = [step.revision for step in steps]
    return at is None or at[0] in earlier


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
