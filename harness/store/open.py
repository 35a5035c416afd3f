"""Opens the MLflow store, and finds or makes a study's experiment in it."""

import logging
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.store.changes import Changes, send
from harness.store.errors import StoreError, again, patient, reason, store_errors
from harness.store.lock import locked
from harness.store.sqlite_tables import whole_tables
from reports.contract import SQLITE, address_fault

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

NOISY = ("mlflow", "alembic", "sqlalchemy", "urllib3", "git")
LOCK_SECONDS = 5.0
ANSWER_SECONDS = 10.0
# how a connection ends that somebody took: a server answers there, if not this time
CLOSED = re.compile("ConnectionResetError|RemoteDisconnected")
# MLflow's UI else takes an experiment for one of language-model traces
SHOWN_AS = {"mlflow.experimentKind": "custom_model_development"}


class Store:
    """An open MLflow store.

    artifacts: where a new experiment's artifacts go; None: the server decides.
    made: what new_run() gave -> the store's id, of runs that were made.
    """

    def __init__(self, uri: str, client: "MlflowClient", artifacts: Path | None) -> None:
        self.uri = uri
        self.client = client
        self.artifacts = artifacts
        self.made: dict[str, str] = {}

    def write(self, changes: Changes) -> None:
        """Write changes to their run.

        Raises:
            StoreError: the store refuses them.
        """
        with store_errors(self.uri):
            send(self.client, changes, self.made)

    def read(self, ask: Callable[["MlflowClient"], T]) -> T:
        """Ask the store something, once it has everything that was written.

        Raises:
            StoreError: it refuses, or does not answer.
        """
        with store_errors(self.uri):
            return ask(self.client)

    def experiment(self, name: str) -> str | None:
        """Id of an experiment, None if there is none.

        Raises:
            StoreError: it was deleted, which keeps its name taken.
        """
        with store_errors(self.uri):
            experiment = patient(self.client, self.uri).get_experiment_by_name(name)
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
        """Id of an experiment, which is made if need be."""
        location = (self.artifacts / name).as_uri() if self.artifacts else None

        def make() -> str:
            known = self.experiment(name)
            if known is not None:
                return known
            with store_errors(self.uri):
                return str(
                    self.client.create_experiment(name, artifact_location=location, tags=SHOWN_AS)
                )

        return again(self.uri, make)


def default_uri(directory: Path) -> str:
    """The store of a directory: MLFLOW_TRACKING_URI if set, else an absolute sqlite file in it."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{directory.absolute() / 'mlflow.db'}"


def absolute_uri(uri: str, directory: Path) -> str:
    """Make sqlite's relative path absolute: a Ray worker has another working directory.

    Raises:
        StoreError: an address that is not well formed, or of sqlite with options.
    """
    path = _sqlite_path(uri, directory)
    absolute = f"{SQLITE}{path}" if path else uri
    fault = address_fault(uri) or address_fault(absolute)
    if fault is not None:
        raise StoreError(fault)
    return absolute


def open_store(uri: str, directory: Path, *, create: bool = True) -> Store | None:
    """Open a store, and make its schema before any other process touches it.

    Args:
        uri: MLflow tracking URI.
        directory: what a relative sqlite path starts from.
        create: make a missing sqlite file; otherwise a missing one gives None.

    Raises:
        StoreError: an address that is not well formed, or a store that is unreadable, locked, no
            database, unreachable, or of another MLflow version.
    """
    uri = absolute_uri(uri, directory)
    path = _sqlite_path(uri, directory)
    if path is not None and not create and not path.exists():
        return None
    with nullcontext() if path is None else locked(f"{path.resolve()} is opened", wait=True):
        return _open(uri, path)


def _open(uri: str, path: Path | None) -> Store:
    if path is not None:
        _check_sqlite(uri, path)
    elif uri.startswith(("http://", "https://")):
        _check_server(uri)
    with store_errors(uri):
        from mlflow.tracking import MlflowClient

        quieten(logging.WARNING)  # after the import, which sets MLflow's level
        with nullcontext() if path is None else whole_tables(uri, path, LOCK_SECONDS):
            client = MlflowClient(tracking_uri=uri)
            patient(client, uri).search_experiments(max_results=1)
    return Store(uri, client, path.parent / "mlartifacts" if path else None)


def quieten(level: int) -> None:
    """Set the level of the loggers of MLflow and of what it stands on.

    Unless all of it is wanted, the traceback that MLflow logs beside each error of its database
    (a full disk, say) is not: the error itself is raised, too.
    """
    for name in NOISY:
        logging.getLogger(name).setLevel(level)
    errors = logging.CRITICAL if level > logging.INFO else level
    logging.getLogger("mlflow.store.db.utils").setLevel(errors)


def _sqlite_path(uri: str, directory: Path) -> Path | None:
    return directory.absolute() / uri.removeprefix(SQLITE) if uri.startswith(SQLITE) else None


def _check_sqlite(uri: str, path: Path) -> None:
    """Find out in seconds what MLflow would retry and then bury in a traceback."""
    if not path.parent.is_dir():
        raise StoreError(f"{uri}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise StoreError(f"{uri}: {path} is a folder, not an sqlite file")
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            file.execute("SELECT count(*) FROM sqlite_master").fetchall()
            file.execute("ROLLBACK")
    except sqlite3.Error as error:
        why = str(error)
        if "locked" in why:
            why = "the database is locked by another process"
        raise StoreError(f"{uri}: cannot use the MLflow store: {why}") from error


def _check_server(uri: str) -> None:
    """Find out at once that no server answers; of one that does, MLflow's client says the rest."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    ask: Callable[..., Any] = http_request
    creds: Callable[[str], Any] = get_default_host_creds
    options = {"timeout": ANSWER_SECONDS, "max_retries": 0, "raise_on_status": False}
    try:
        answer = ask(creds(uri), "/health", "GET", **options)
    except Exception as error:
        if CLOSED.search(str(error)):
            return
        raise StoreError(f"{uri}: no MLflow server answers: {reason(error)}") from error
    if answer.status_code == 403:
        raise StoreError(
            f"{uri}: the MLflow server refuses this host name (403); start it with --allowed-hosts"
        )
