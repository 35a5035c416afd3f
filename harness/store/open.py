"""Open an MLflow store as a `Store`, through which runs and experiments are read and written."""

import logging
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.machine import hold_lock, set_environment
from harness.store.address import (
    SQLITE,
    find_address_fault,
    get_default_tracking_uri,
    reach_database,
)
from harness.store.errors import (
    READ_METHODS,
    StoreError,
    retry_requests,
    wrap_client,
    wrap_errors,
)
from harness.store.run_update import (
    MAX_TAG,
    RunUpdate,
    escape_text,
    find_runs,
    get_time_ms,
    rank_run,
    write_update,
)
from harness.store.schema import Tag
from harness.store.sqlite_tables import create_or_upgrade_tables

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

NOISY_LOGGERS = ("mlflow", "alembic", "sqlalchemy", "urllib3", "git")
# These log an error that they then raise.
DUPLICATE_LOGGERS = ("mlflow.store.db.utils", "mlflow.utils.databricks_utils")
CLIENT_ENVIRONMENT = {
    # MLflow's own retries could create a run twice, and would block Tune's loop
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PGCONNECT_TIMEOUT": "15",  # seconds, read by libpq
    # MLflow would print the store's address, which may contain a password, to stdout
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# Without this tag MLflow's UI shows the experiment in its view for language models.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


@dataclass(eq=False)
class Store:
    """An open MLflow store.

    Attributes:
        uri: Address of the store.
        client: MLflow's client of the store.
    """

    uri: str
    client: "MlflowClient"

    def write(self, update: RunUpdate) -> None:
        """Write an update to its run.

        Raises:
            StoreError: The store refuses the update, or does not answer.
        """
        self.call(lambda: write_update(self.client, update))

    def read(self, request: Callable[["MlflowClient"], T]) -> T:
        """Return the result of `request`, and retry each of its reads that gets no answer.

        Args:
            request: Function that reads from the store with the client that it gets.

        Raises:
            StoreError: The store refuses a request, or does not answer.
        """

        def retry_reads(name: str, call: Callable[[], Any]) -> Any:
            return retry_requests(self.uri, call) if name.startswith(READ_METHODS) else call()

        return self.call(lambda: request(wrap_client(self.client, retry_reads)))

    def set_experiment_tags(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an experiment.

        Raises:
            StoreError: The store refuses a tag, or does not answer.
        """
        for name, text in tags.items():
            self.call(partial(self.client.set_experiment_tag, experiment_id, name, text))

    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Create a run, and return its ID.

        The run gets a unique key as a tag. Each retry first searches for a run with this key: an
        earlier request may have created it although the answer was lost.

        Args:
            experiment_id: MLflow's ID of the study's experiment.
            name: Name of the run.
            tags: Tags of the run, truncated to MAX_TAG characters.

        Raises:
            StoreError: The store refuses the run, or does not answer.
        """
        start_time, key, is_retry = get_time_ms(), uuid.uuid4().hex, False
        texts = {tag: escape_text(text)[:MAX_TAG] for tag, text in tags.items()}

        def create() -> str:
            nonlocal is_retry
            runs = find_runs(self.client, experiment_id, key) if is_retry else []
            is_retry = True
            run = max(runs, key=rank_run, default=None) or self.client.create_run(
                experiment_id,
                start_time=start_time,
                tags={**texts, Tag.RUN_KEY: key},
                run_name=name,
            )
            return str(run.info.run_id)

        return self.call(create)

    def call(self, request: Callable[[], T]) -> T:
        """Return the result of `request`, a function that makes idempotent requests to the store.

        Raises:
            StoreError: The store refuses a request, or does not answer.
        """
        with wrap_errors(self.uri):
            return request()

    def find_experiment(self, name: str) -> str | None:
        """Return the ID of an experiment, or None if it does not exist.

        Raises:
            StoreError: The experiment was deleted, so its name cannot be used again. Or the store
                cannot be read.
        """
        experiment = self.read(lambda client: client.get_experiment_by_name(name))
        if experiment is None:
            return None
        if experiment.lifecycle_stage != "active":
            raise StoreError(
                f"{self.uri}: experiment {name!r} was deleted. Restore it with `mlflow experiments "
                f"restore --experiment-id {experiment.experiment_id}`, or rename the study"
            )
        return str(experiment.experiment_id)

    def get_or_create_experiment(self, name: str) -> str:
        """Return the ID of an experiment. It is created if it does not exist.

        The artifacts of an sqlite store are saved next to its file. A server or another database
        uses MLflow's default.

        Raises:
            StoreError: The experiment was deleted, or the store cannot be used.
        """
        path = _parse_sqlite_path(self.uri)
        location = (path.parent / "mlartifacts" / name).as_uri() if path else None

        def find_or_create() -> str:
            return self.find_experiment(name) or self.client.create_experiment(
                name, location, EXPERIMENT_TAGS
            )

        with wrap_errors(self.uri):
            return str(retry_requests(self.uri, find_or_create))


def resolve_store_uri(requested: str | None) -> str:
    """Return the address that a user requests, or the default one.

    A relative sqlite path becomes absolute, because Ray workers have another working directory.

    Args:
        requested: Address. Defaults to MLFLOW_TRACKING_URI or, if that is not set, to mlflow.db in
            the working directory. "" counts as no address.

    Raises:
        StoreError: The address is malformed, or is an sqlite address with options.
    """
    uri = requested or get_default_tracking_uri()
    path = _parse_sqlite_path(uri)
    resolved_uri = f"{SQLITE}{path}" if path else uri
    fault = find_address_fault(uri) or find_address_fault(resolved_uri)
    if fault is not None:
        raise StoreError(fault)
    return resolved_uri


def open_existing_store(uri: str) -> Store | None:
    """Open a store like `open_store`, but return None if its sqlite file does not exist.

    Raises:
        StoreError: See `open_store`.
    """
    path = _parse_sqlite_path(resolve_store_uri(uri))
    return open_store(uri) if path is None or path.exists() else None


def open_store(uri: str) -> Store:
    """Open a store.

    The tables of an sqlite file are created or upgraded if needed. Meanwhile, other processes of
    this machine that open the same file wait.

    Args:
        uri: MLflow tracking URI. A missing sqlite file is created.

    Raises:
        StoreError: The address is malformed, or the store is unreadable, locked, unreachable or not
            an MLflow database. Or a newer MLflow wrote it, or its upgrade failed.
    """
    uri = resolve_store_uri(uri)
    path = _parse_sqlite_path(uri)
    if path is not None and not path.parent.is_dir():
        raise StoreError(
            f"{uri}: the folder {path.parent} does not exist. Create it, or use another store"
        )
    if path is not None and path.is_dir():
        raise StoreError(f"{uri}: the store must be an sqlite file, got the folder {path}")
    with ExitStack() as stack:
        stack.enter_context(wrap_errors(uri))
        stack.enter_context(set_environment(CLIENT_ENVIRONMENT))
        from mlflow.tracking import MlflowClient

        set_log_level(logging.WARNING)  # after the import, which sets MLflow's level
        if path is not None:
            stack.enter_context(hold_lock(f"{path.resolve()} is opened", wait=True))
            create_or_upgrade_tables(uri, path)
        reach_database(uri)
        store = Store(uri, MlflowClient(tracking_uri=uri))
        store.read(lambda client: client.search_experiments(max_results=1))
    return store


def set_log_level(level: int) -> None:
    """Set the level of the loggers of MLflow and its dependencies.

    If the level is above INFO, DUPLICATE_LOGGERS log no errors: their tracebacks (e.g. about a full
    disk) contain the store's address.
    """
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(level)
    duplicate_level = logging.CRITICAL if level > logging.INFO else level
    for name in DUPLICATE_LOGGERS:
        logging.getLogger(name).setLevel(duplicate_level)


def _parse_sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of an sqlite store's file, or None for another kind of store."""
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None
