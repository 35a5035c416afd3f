"""Read runs and studies from an MLflow store. Nothing is created or changed."""

import contextlib
import logging
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from harness.machine import silence_loggers
from harness.store.address import (
    SQLITE,
    describe_store_fault,
    find_address_fault,
    reach_database,
    reach_server,
)
from harness.store.errors import StoreError
from harness.store.schema import MAX_STUDIES, Kind, Tag

PAGE = 100  # runs per request; each may have a thousand metrics
# Default address of `mlflow ui`, which shows stores in files and databases.
LOCAL_UI = "http://127.0.0.1:5000"
# By default MLflow 3 opens its view for language models, which lacks the charts of a run.
ML_VIEW = "?workflowType=machine_learning"


@dataclass(frozen=True)
class Run:
    """One MLflow run as plain data.

    Attributes:
        run_id: MLflow's ID of the run.
        started: Start time in milliseconds since the epoch.
        tags: Tags by name.
        params: Params by name.
        metrics: Last value of each metric.
        artifacts: URI of the folder of the run's files.
        experiment_id: MLflow's ID of the study's experiment.
    """

    run_id: str
    started: int
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    artifacts: str = ""
    experiment_id: str = ""


def read_runs(study_name: str, uri: str) -> list[Run]:
    """Return the runs of an experiment that ship-sweep wrote, oldest first.

    Args:
        study_name: Name of the experiment.
        uri: Address of the store, as returned by `require_store`.

    Raises:
        StoreError: The store cannot be read, or has no such experiment. The message then lists the
            experiments that exist.
    """
    with open_reader(uri) as client:
        experiment = client.get_experiment_by_name(study_name)
        if experiment is None or experiment.lifecycle_stage != "active":
            names = [existing.name for existing in client.search_experiments()]
            raise _make_unknown_study_error(study_name, uri, names)
        try:
            runs = list_runs(client, experiment.experiment_id)
        except StoreError as error:
            raise StoreError(f"{uri}: {error}") from error
    return [run for run in runs if Tag.KIND in run.tags]


def refresh_study_run(runs: Sequence[Run], uri: str) -> list[Run]:
    """Read the study's own run again from the store, and return it with the study's other runs.

    Args:
        runs: All runs of the study's experiment as they were read, oldest first.
        uri: Address of the store.

    Returns:
        The runs that ship-sweep wrote. [] if `runs` lacks the study's own run.

    Raises:
        StoreError: The store cannot be read.
    """
    ship_runs = [run for run in runs if Tag.KIND in run.tags]
    if not any(run.tags[Tag.KIND] == Kind.STUDY for run in ship_runs):
        return []
    with open_reader(uri) as client:
        return [
            convert_run(client.get_run(run.run_id)) if run.tags[Tag.KIND] == Kind.STUDY else run
            for run in ship_runs
        ]


@contextlib.contextmanager
def open_reader(uri: str) -> Iterator[Any]:
    """Provide a quiet MLflow client inside the context, and convert its errors to StoreError.

    Raises:
        StoreError: The store cannot be read. Every error inside the context becomes a StoreError.
    """
    # imported before silence_client, because the import sets the level of MLflow's loggers
    from mlflow.tracking import MlflowClient

    with silence_client():
        try:
            reach_database(uri)
            reach_server(uri)
            yield MlflowClient(tracking_uri=uri)
        except StoreError:
            raise
        except Exception as error:  # MLflow and its database libraries may raise any type
            fault = describe_store_fault(error, uri)
            raise StoreError(f"{uri}: cannot read the MLflow store: {fault}") from error


def list_study_names(tracking_uri: str) -> list[str]:
    """Return the names of a store's studies, newest first.

    Raises:
        StoreError: There is no readable store at the URI.
    """
    uri = require_store(tracking_uri)
    with open_reader(uri) as client:
        names = list_experiments(client)
        studies = find_study_runs(client, [*names])
        return list(dict.fromkeys(names[str(run.info.experiment_id)] for run in studies))


def list_experiments(client: Any) -> dict[str, str]:
    """Return the names of all active experiments by their IDs."""
    active = client.search_experiments(max_results=MAX_STUDIES)
    return {str(experiment.experiment_id): str(experiment.name) for experiment in active}


def find_study_runs(client: Any, experiment_ids: Sequence[str]) -> list[Any]:
    """Return MLflow's entities of the studies' own runs in experiments, newest first.

    Args:
        client: MLflow's client of the store.
        experiment_ids: MLflow's IDs of the studies' experiments.
    """
    query = f"tags.`{Tag.KIND}` = '{Kind.STUDY}'"
    return list(client.search_runs([*experiment_ids], query, max_results=MAX_STUDIES))


def list_runs(client: Any, experiment_id: str) -> list[Run]:
    """Return the active runs of an experiment, oldest first.

    Raises:
        StoreError: A run is damaged, see `convert_run`.
    """
    runs = [convert_run(run) for page in iter_pages(client, experiment_id) for run in page]
    return sorted(runs, key=lambda run: (run.started, run.run_id))


def iter_pages(client: Any, experiment_id: str, query: str = "") -> Iterator[list[Any]]:
    """Yield MLflow's entities of an experiment's active runs in pages, newest first.

    A run can be on two pages if runs are added meanwhile.

    Args:
        client: MLflow's client of the store.
        experiment_id: MLflow's ID of the experiment.
        query: MLflow's filter of the runs. By default, all runs are read.
    """
    token: str | None = None
    while token is None or token:
        page = client.search_runs([experiment_id], query, max_results=PAGE, page_token=token)
        yield page
        token = page.token or ""


def convert_run(run: Any) -> Run:
    """Return MLflow's entity of a run as plain data.

    Raises:
        StoreError: The store is damaged: the name or the value of a tag, param or metric has a type
            that MLflow does not write.
    """
    info, data = run.info, run.data
    typed_entries: tuple[tuple[str, Mapping[str, Any], Any], ...] = (
        ("tag", data.tags, str),
        ("parameter", data.params, str),
        ("metric", data.metrics, int | float),
    )
    for noun, entries, value_type in typed_entries:
        for key, value in entries.items():
            if not isinstance(key, str):
                raise StoreError(f"run {info.run_id} is damaged: a {noun} is named {key!r}")
            if not isinstance(value, value_type):
                raise StoreError(f"run {info.run_id} is damaged: {noun} {key} has value {value!r}")
    return Run(
        run_id=info.run_id,
        started=info.start_time or 0,
        tags=dict(data.tags),
        params=dict(data.params),
        metrics=dict(data.metrics),
        artifacts=info.artifact_uri or "",
        experiment_id=info.experiment_id,
    )


def require_store(uri: str) -> str:
    """Check the address of a store, and that its sqlite file exists and is an MLflow store.

    MLflow itself would create a missing file. Servers and other databases are not contacted.

    Args:
        uri: Address of the store, or the path of an sqlite file.

    Returns:
        The address. The path of a file becomes an sqlite address.

    Raises:
        StoreError: The address is malformed or is an sqlite address with options, or the sqlite
            file is missing, is not a database, or belongs to another application.
    """
    fault = find_address_fault(uri)
    if fault is not None:
        raise StoreError(fault)
    if "://" not in uri and Path(uri).is_file():
        uri = f"{SQLITE}{Path(uri).resolve()}"
    if not uri.startswith(SQLITE):
        return uri
    path = Path(uri.removeprefix(SQLITE))
    if not path.is_file():
        raise StoreError(
            f"{path}: no MLflow store found. Run ship-sweep first, or use another tracking URI"
        )
    try:
        # read-only, because MLflow itself would create or change tables
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        ) as database:
            # Check columns, too: another application may have tables of the same names, and MLflow
            # would add its columns to them.
            query = "SELECT e.lifecycle_stage, r.run_uuid FROM experiments e, runs r LIMIT 0"
            database.execute(query)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot read the file as an MLflow store: {error}") from error
    return uri


def _make_unknown_study_error(name: str, uri: str, existing_names: Iterable[str]) -> StoreError:
    """Return the error about an unknown study. It lists the studies that exist."""
    studies = sorted(existing for existing in existing_names if existing != "Default")
    listing = ", ".join(studies) or "none"
    return StoreError(f"{uri}: unknown study {name!r} (studies in this store: {listing})")


def silence_client() -> contextlib.AbstractContextManager[None]:
    """Return a context that suppresses the notices of MLflow and alembic."""
    return silence_loggers("mlflow", "alembic", level=logging.ERROR)


def get_runs_address(tracking_uri: str, experiment_id: str) -> str:
    """Return the address of an experiment's runs in MLflow's UI, for `get_run_address`.

    Args:
        tracking_uri: Address of the store. A server's UI has the server's address, without user,
            password and query, which may be secrets. For other stores, LOCAL_UI is used.
        experiment_id: MLflow's ID of the study's experiment.
    """
    parts = urlsplit(tracking_uri)
    base = LOCAL_UI
    if parts.scheme in ("http", "https"):
        base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return f"{base}/#/experiments/{quote(experiment_id, safe='')}/runs/"


def get_run_address(runs: str, run_id: str) -> str:
    """Return the address of a run in MLflow's UI. "" if `runs` is "" or the ID is malformed.

    Args:
        runs: Address of the experiment's runs (see `get_runs_address`), or "".
        run_id: MLflow's ID of the run, or "". It is untrusted input.
    """
    is_valid = runs and re.fullmatch(r"[\w-]+", run_id)
    return f"{runs}{run_id}{ML_VIEW}" if is_valid else ""
