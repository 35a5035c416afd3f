"""Read the runs of one experiment from an MLflow store, without ever creating or changing one."""

import contextlib
import json
import logging
import math
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from harness.machine import quiet
from harness.store.address import SQLITE, address_fault, reach_database, reach_server, store_fault
from harness.store.errors import StoreError
from harness.store.schema import MOST_STUDIES, Kind, State, Tag

PAGE = 100  # runs a request; each may hold a thousand metrics
# Where the command that ship-sweep prints at its end serves a store that is a file or a database.
LOCAL_UI = "http://127.0.0.1:5000"
_VALUE = "CASE WHEN is_nan THEN NULL ELSE value END"  # of a metric; NULL: not a number
# of a Run: the table that it stands in, the column, and what that may hold
_PARTS: Final[dict[str, tuple[str, str, Any]]] = {
    "metrics": ("latest_metrics", _VALUE, int | float | None),
    "tags": ("tags", "value", str),
    "params": ("params", "value", str),
}


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
        study_name: the experiment's.
        uri: of the store, as checked gives it.

    Raises:
        StoreError: it cannot be read, or there is no such experiment (lists those that exist).
    """
    runs = sqlite_runs(uri, study_name)
    if runs is None:
        runs = _from_client(study_name, uri)
    return sorted(
        (run for run in runs if Tag.KIND in run.tags), key=lambda r: (r.started, r.run_id)
    )


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
    with _client_of(uri) as client:
        return [
            plain_run(client.get_run(run.run_id)) if run.tags[Tag.KIND] == Kind.STUDY else run
            for run in known
        ]


def sqlite_runs(uri: str, study_name: str) -> list[Run] | None:
    """The runs of a study by plain SQL, in any order.

    MLflow makes an object of every metric: a study of 500 runs with some hundred metrics each takes
    ten times as long through its client.

    Args:
        uri: of the store.
        study_name: of its experiment.

    Returns:
        None where the store is no sqlite file, or its tables are not as expected.

    Raises:
        StoreError: no such experiment, or a damaged file.
    """
    if not uri.startswith(SQLITE):
        return None
    try:
        with opened(uri) as base:
            query = "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
            active = {name: one for name, one in base.execute(query) if isinstance(name, str)}
            if study_name not in active:
                raise StoreError(_unknown(study_name, uri, active))
            return _selected(base, "experiment_id = ?", [active[study_name]])
    except (sqlite3.Error, TypeError) as error:
        # a text that is no UTF-8 is damage; else the client may know the tables, or says what is so
        if isinstance(error, sqlite3.OperationalError) and "decode" not in str(error):
            return None
        raise StoreError(f"{uri.removeprefix(SQLITE)}: damaged: {error}") from error


def sqlite_finished(uri: str, keys: Sequence[str]) -> list[Run] | None:
    """The complete runs of settings in an sqlite store, whatever study they are of, in any order.

    Args:
        uri: of the store.
        keys: of the settings.

    Returns:
        None where the store is no sqlite file, or its tables or rows are not as expected.
    """
    if not uri.startswith(SQLITE):
        return None
    chosen = (
        "run_uuid IN (SELECT run_uuid FROM tags AS own JOIN tags AS state USING (run_uuid)"
        " WHERE own.key = ? AND own.value IN (SELECT value FROM json_each(?))"
        " AND state.key = ? AND state.value = ?)"
    )
    wanted = [Tag.SETTING_KEY, json.dumps([*keys]), Tag.STATE, State.COMPLETE]
    try:
        with opened(uri) as base:
            return _selected(base, chosen, wanted)
    except (sqlite3.Error, TypeError):  # the client says what is wrong
        return None


def _selected(base: sqlite3.Connection, chosen: str, values: list[Any]) -> list[Run]:
    """The active runs that are chosen, as MLflow's client would give them.

    Args:
        base: an open sqlite store.
        chosen: which of the table runs, as SQL. values: of its question marks.

    Raises:
        TypeError: a row is not of the kind that MLflow writes: the file is damaged.
    """
    own = f"FROM runs WHERE {chosen} AND lifecycle_stage = 'active'"
    of_runs = f"WHERE run_uuid IN (SELECT run_uuid {own})"
    runs: dict[Any, Run] = {}
    query = f"SELECT run_uuid, start_time, coalesce(artifact_uri, ''), experiment_id {own}"
    for run_id, started, folder, experiment_id in base.execute(query, values):
        if not isinstance(started, int | None) or not isinstance(folder, str):
            raise TypeError(_damaged_row("runs", run_id, "start_time or artifact_uri"))
        runs[run_id] = Run(run_id, started or 0, {}, {}, {}, folder, str(experiment_id))
    for part, (table, column, kind) in _PARTS.items():
        query = f"SELECT run_uuid, key, {column} FROM {table} {of_runs}"
        for run_id, key, found in base.execute(query, values):
            if run_id not in runs or not isinstance(key, str) or not isinstance(found, kind):
                raise TypeError(_damaged_row(table, run_id, key))
            getattr(runs[run_id], part)[key] = math.nan if found is None else found
    return list(runs.values())


def _damaged_row(table: str, run_id: Any, key: Any) -> str:
    """Words that name the run and the row that no MLflow has written."""
    return f"run {run_id}: table {table}, {key}: not what MLflow writes"


def _from_client(study_name: str, uri: str) -> list[Run]:
    """The runs of any store by MLflow's client."""
    with _client_of(uri) as client:
        experiment = client.get_experiment_by_name(study_name)
        if experiment is None or experiment.lifecycle_stage != "active":
            names = [found.name for found in client.search_experiments()]
            raise StoreError(_unknown(study_name, uri, names))
        return list(paged_runs(client, experiment.experiment_id))


@contextlib.contextmanager
def _client_of(uri: str) -> Iterator[Any]:
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
    with _client_of(uri) as client:
        every = client.search_experiments(max_results=MOST_STUDIES)
        names = {found.experiment_id: found.name for found in every}
        studies = client.search_runs(
            list(names),
            filter_string=f"tags.`{Tag.KIND}` = '{Kind.STUDY}'",
            max_results=MOST_STUDIES,
        )
        return list(dict.fromkeys(names[run.info.experiment_id] for run in studies))


def paged_runs(client: Any, experiment_id: str) -> Iterator[Run]:
    """Yield the active runs of an experiment by MLflow's client, page by page, in any order."""
    token: str | None = None
    while token is None or token:
        page = client.search_runs([experiment_id], max_results=PAGE, page_token=token)
        yield from map(plain_run, page)
        token = page.token or ""


def plain_run(run: Any) -> Run:
    """MLflow's entity of a run as plain data."""
    info, data = run.info, run.data
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
        with opened(uri) as base:
            # by their columns: MLflow would add its own to what another application calls so
            base.execute("SELECT e.lifecycle_stage, r.run_uuid FROM experiments e, runs r LIMIT 0")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read as an MLflow store: {error}") from error
    return uri


@contextlib.contextmanager
def opened(uri: str) -> Iterator[sqlite3.Connection]:
    """One moment of an sqlite store that others write to, and to which nothing can write here."""
    path = Path(uri.removeprefix(SQLITE)).resolve()
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as base:
        base.execute("BEGIN")
        yield base


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
