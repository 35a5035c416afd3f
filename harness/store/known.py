"""What other studies of a store know of settings: finished runs, their epochs and their files."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from harness.store.changes import MOST_BYTES, Point, require_answer
from harness.store.errors import again, patient, reason
from harness.store.ledger import LedgerRun, ledger_run
from harness.store.trained import fetched
from reports.contract import HITS, TRAINED, Kind, State, Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from reports.read import Run

T = TypeVar("T")

logger = logging.getLogger(__name__)

MOST_STUDIES = 50_000  # of a store: the most that MLflow gives at once


@dataclass(frozen=True)
class Known:
    """A finished run of another study.

    study: the study's name. run: as MLflow has it. row: as a ledger has it.
    """

    study: str
    run: "Run"
    row: LedgerRun


def experiments(client: "MlflowClient") -> dict[str, str]:
    """Id -> name of every experiment that was not deleted."""
    every = client.search_experiments(max_results=MOST_STUDIES)
    return {str(one.experiment_id): str(one.name) for one in every}


def read_known(
    client: "MlflowClient", experiment_id: str | None, keys: Sequence[str], *, trained: bool = False
) -> list[Known]:
    """The finished runs of settings in other studies of a store, oldest first.

    What they have themselves from others is left out: the first run of it is there, or somebody
    has deleted it. An sqlite store is asked once; a server, whose filters know no "or", once a
    setting.

    Args:
        client: of the store.
        experiment_id: of the study that asks; None: it has none yet.
        keys: of the settings.
        trained: whether a run must have kept what it trained.
    """
    from reports.read import plain_run, sqlite_finished

    client = patient(client, client.tracking_uri)
    names = experiments(client)
    names.pop(experiment_id or "", None)
    if not names or not keys:
        return []
    found = sqlite_finished(client.tracking_uri, keys)
    if found is None:
        found = []
        for key in keys:
            asked = {Tag.KIND: Kind.TRIAL, Tag.STATE: State.COMPLETE, Tag.SETTING_KEY: key}
            text = " and ".join(f"tags.`{name}` = '{value}'" for name, value in asked.items())
            found += map(plain_run, client.search_runs([*names], filter_string=text))
    known = []
    for run in sorted(found, key=lambda run: (run.started, run.run_id)):
        if run.experiment_id not in names or Tag.ADOPTED_RUN in run.tags:
            continue
        if trained and TRAINED not in (_tried(client, run, partial(_names, client, run)) or ()):
            continue
        try:
            known.append(Known(names[run.experiment_id], run, ledger_run(run, "")))
        except (ValueError, TypeError):  # damaged: its own study says so
            continue
    return known


def epoch_points(client: "MlflowClient", run_id: str, keys: Sequence[str]) -> list[Point]:
    """Every value that a run has of metrics, as it was logged."""
    client = patient(client, client.tracking_uri)
    return [
        Point(one.key, one.value, one.timestamp, one.step)
        for key in keys
        for one in client.get_metric_history(run_id, key)
    ]


def kept_files(client: "MlflowClient", run: "Run", *, trained: bool) -> dict[str, bytes] | None:
    """The files of a run by their path among its artifacts; None: they cannot be read now.

    Args:
        client: of the store.
        run: whose files they are.
        trained: whether what was trained is wanted, too, beside the right answers.

    Raises:
        Exception: whatever the client raises where the store is away.
    """
    client = patient(client, client.tracking_uri)
    wanted = {HITS, *((TRAINED,) if trained else ())}

    def ask() -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        for name in sorted(_names(client, run) & wanted):
            files |= again(client.tracking_uri, partial(_read, client, run, name))
        return files

    return _tried(client, run, ask)


def _read(client: "MlflowClient", run: "Run", name: str) -> dict[str, bytes]:
    """A file, or each file in a folder."""
    files = {}
    with fetched(f"{run.artifacts.rstrip('/')}/{name}", None, client.tracking_uri) as place:
        for path in place.iterdir() if place.is_dir() else [place]:
            if path.is_file() and path.stat().st_size <= MOST_BYTES:
                files[name if path == place else f"{name}/{path.name}"] = path.read_bytes()
    return files


def _names(client: "MlflowClient", run: "Run") -> set[str]:
    """What stands at the top of a run's artifacts."""
    return {one.path for one in client.list_artifacts(run.run_id)}


def _tried(client: "MlflowClient", run: "Run", ask: Callable[[], T]) -> T | None:
    """What a store says of a run's files; None where it says nothing.

    Raises:
        Exception: whatever the client raises where the store is away.
    """
    try:
        return ask()
    except Exception as error:  # a server may have numbers, and no files
        require_answer(client, run.run_id)
        logger.warning("files of run %s cannot be read: %s", run.run_id, reason(error))
        return None
