"""Read the runs of one experiment from an MLflow store, without ever creating or changing one."""

import contextlib
import logging
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from harness.machine import quiet
from harness.store.address import SQLITE, address_fault, reach_database, reach_server, store_fault
from harness.store.errors import StoreError
from harness.store.schema import MOST_STUDIES, Kind, Tag

PAGE = 100  # runs a request; each may hold a thousand metrics
# Where the command that ship-sweep prints at its end serves a store that is a file or a database.
LOCAL_UI = "http://127.0.0.1:5000"


@dataclass(frozen=True)
class Run:
    """One MLflow run as plain data.

    metrics: each metric's last value. artifacts: the URI of the folder of its files.
    experiment_id: of the study's experiment.
    """

    run_id: str
    started: int  # ms since the epoch
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    artifacts: str = ""
    experiment_id: str = ""


def default_tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else the sqlite file that ship-sweep makes in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def read_runs(study_name: str, uri: str) -> list[Run]:
    """Return every run of the experiment that ship-sweep wrote, oldest first.

    Args:
        study_name: Name of the experiment.
        uri: Address of the store, as checked gives it.

    Raises:
        StoreError: It cannot be read, or there is no such experiment (lists those that exist).
    """
    with reading(uri) as client:
        experiment = client.get_experiment_by_name(study_name)
        if experiment is None or experiment.lifecycle_stage != "active":
            names = [other.name for other in client.search_experiments()]
            raise StoreError(_unknown(study_name, uri, names))
        try:
            runs = runs_of_experiment(client, experiment.experiment_id)
        except StoreError as error:
            raise StoreError(f"{uri}: {error}") from error
    return [run for run in runs if Tag.KIND in run.tags]


def refreshed(runs: Sequence[Run], uri: str) -> list[Run]:
    """Return runs that have been read, oldest first, with the study's own run as it is now.

    Args:
        runs: All runs of a study's experiment, oldest first.
        uri: Address of the store.

    Returns:
        An empty list if the study's own run is not among them.

    Raises:
        StoreError: The store cannot be read.
    """
    known = [run for run in runs if Tag.KIND in run.tags]
    if not any(run.tags[Tag.KIND] == Kind.STUDY for run in known):
        return []
    with reading(uri) as client:
        return [
            plain_run(client.get_run(run.run_id)) if run.tags[Tag.KIND] == Kind.STUDY else run
            for run in known
        ]


@contextlib.contextmanager
def reading(uri: str) -> Iterator[Any]:
    """MLflow's client, quietly; whatever it throws (SQL, HTTP, migrations) becomes one line."""
    from mlflow.tracking import MlflowClient  # sets the level of its loggers, so it comes first

    with quiet_client():
        try:
            reach_database(uri)
            reach_server(uri)
            yield MlflowClient(tracking_uri=uri)
        except StoreError:
            raise
        except Exception as error:  # the user can act on none of the types
            told = store_fault(error, uri)
            raise StoreError(f"{uri}: cannot read the MLflow store: {told}") from error


def study_names(tracking_uri: str) -> list[str]:
    """The names of a store's studies, the one that was begun last first.

    Raises:
        StoreError: no readable store at the URI.
    """
    uri = checked(tracking_uri)
    with reading(uri) as client:
        every = client.search_experiments(max_results=MOST_STUDIES)
        names = {found.experiment_id: found.name for found in every}
        studies = client.search_runs(
            list(names),
            filter_string=f"tags.`{Tag.KIND}` = '{Kind.STUDY}'",
            max_results=MOST_STUDIES,
        )
        return list(dict.fromkeys(names[run.info.experiment_id] for run in studies))


def runs_of_experiment(client: Any, experiment_id: str) -> list[Run]:
    """Return the active runs of an experiment, oldest first.

    Raises:
        StoreError: A run holds what MLflow does not write.
    """
    runs: list[Run] = []
    token: str | None = None
    while token is None or token:
        page = client.search_runs([experiment_id], max_results=PAGE, page_token=token)
        runs += map(plain_run, page)
        token = page.token or ""
    return sorted(runs, key=lambda run: (run.started, run.run_id))


def plain_run(run: Any) -> Run:
    """Return MLflow's entity of a run as plain data.

    Raises:
        StoreError: A tag, parameter or metric is not of the kind that MLflow writes, as in a
            damaged file.
    """
    info, data = run.info, run.data
    parts: tuple[tuple[str, Mapping[str, Any], Any], ...] = (
        ("tag", data.tags, str),
        ("parameter", data.params, str),
        ("metric", data.metrics, int | float),
    )
    for part, values, kind in parts:
        for key, value in values.items():
            if not isinstance(value, kind):
                raise StoreError(f"run {info.run_id} is damaged: {part} {key}: got {value!r}")
    return Run(
        run_id=info.run_id,
        started=info.start_time or 0,
        tags=dict(data.tags),
        params=dict(data.params),
        metrics=dict(data.metrics),
        artifacts=info.artifact_uri or "",
        experiment_id=info.experiment_id,
    )


def checked(uri: str) -> str:
    """Return the URI, a bare path spelled out; MLflow itself would create a missing sqlite file.

    Raises:
        StoreError: a sqlite file that is absent, no database, or somebody else's database, or an
            address that is not well formed, or of sqlite with options.
    """
    fault = address_fault(uri)
    if fault is not None:
        raise StoreError(fault)
    if "://" not in uri and Path(uri).is_file():
        uri = f"{SQLITE}{Path(uri).resolve()}"
    if not uri.startswith(SQLITE):
        return uri
    path = Path(uri.removeprefix(SQLITE))
    if not path.is_file():
        raise StoreError(
            f"{path}: no MLflow store here (run ship-sweep, or give another tracking URI)"
        )
    try:
        # read-only: MLflow itself would make or change tables
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        ) as base:
            # by their columns: MLflow would add its own to what another application calls so
            base.execute("SELECT e.lifecycle_stage, r.run_uuid FROM experiments e, runs r LIMIT 0")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read as an MLflow store: {error}") from error
    return uri


def _unknown(name: str, uri: str, names: Iterable[str]) -> str:
    """One line that names the experiments which do exist."""
    listed = sorted(found for found in names if found != "Default")
    return f"{uri}: no study {name!r}; studies here: {', '.join(listed) or 'none'}"


def quiet_client() -> contextlib.AbstractContextManager[None]:
    """Keep MLflow's and alembic's notices out of a report for the time of the reading."""
    return quiet("mlflow", "alembic", level=logging.ERROR)


def runs_address(tracking_uri: str, experiment_id: str) -> str:
    """The address of an experiment's runs in MLflow's UI, without a run's id.

    Args:
        tracking_uri: of the store; an address of the web is that of the UI, too. Its user,
            password and query are secrets and are left out.
        experiment_id: of the study.
    """
    parts = urlsplit(tracking_uri)
    base = LOCAL_UI
    if parts.scheme in ("http", "https"):
        base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return f"{base}/#/experiments/{quote(experiment_id, safe='')}/runs/"


def run_address(runs: str, run_id: str) -> str:
    """The address of a run, "" where there is none; ids come from a store that may be another's.

    Args:
        runs: as runs_address gives it, or "".
        run_id: of the run, or "".
    """
    known = runs and re.fullmatch(r"[\w-]+", run_id)
    return f"{runs}{run_id}" if known else ""
