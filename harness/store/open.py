"""Opens the MLflow store, and finds or makes a study's experiment in it."""

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.machine import environment, locked
from harness.store.changes import Changes, send
from harness.store.errors import StoreError, again, patient, store_errors
from harness.store.sqlite_tables import whole_tables
from reports.contract import SQLITE, address_fault

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

NOISY = ("mlflow", "alembic", "sqlalchemy", "urllib3", "git")
LOCK_SECONDS = 5.0
CLIENT_ENVIRONMENT = {
    # MLflow's own retries make a run again without looking for it, and hold Tune's loop up
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # at the end of each run it would print the address, with the store's password, to stdout
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# MLflow's UI else takes an experiment for one of language-model traces
SHOWN_AS = {"mlflow.experimentKind": "custom_model_development"}


@dataclass(eq=False)
class Store:
    """An open MLflow store.

    artifacts: where a new experiment's artifacts go; None: the server decides.
    made: what new_run() gave -> the store's id, of runs that were made.
    """

    uri: str
    client: "MlflowClient"
    artifacts: Path | None
    made: dict[str, str] = field(default_factory=dict, init=False)

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
            return ask(patient(self.client, self.uri))

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
            stack.enter_context(whole_tables(uri, path, LOCK_SECONDS))
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


def _sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None
