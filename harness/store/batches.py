"""Writes to a run of the MLflow store in as few requests as it allows."""

from collections.abc import Mapping
from typing import Any

from harness.store.writer import Writer
from reports.contract import RUN_STATUS, State, Tag

# MLflow cuts longer values off
MAX_TAG = 8000
MAX_PARAM = 6000
BATCH = 100


def log(
    client: Writer,
    run_id: str,
    *,
    metrics: Mapping[str, float] | None = None,
    step: int = 0,
    timestamp: int = 0,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write metrics at one step, params and tags in as few batches as MLflow allows.

    Args:
        client: that writes.
        run_id: of the run.
        metrics: name -> number.
        step: of all metrics.
        timestamp: of all metrics, milliseconds since the epoch.
        params: name -> value; a text of more than MAX_PARAM characters is cut.
        tags: name -> text; one of more than MAX_TAG characters is cut (see harness.store.tags).
    """
    from mlflow.entities import Metric, Param, RunTag

    points = [Metric(name, value, timestamp, step) for name, value in (metrics or {}).items()]
    settings = [
        Param(name, _plain(str(value))[:MAX_PARAM]) for name, value in (params or {}).items()
    ]
    labels = [RunTag(name, _plain(value)[:MAX_TAG]) for name, value in (tags or {}).items()]
    log_entities(client, run_id, points, settings, labels)


def log_entities(
    client: Writer,
    run_id: str,
    metrics: list[Any],
    params: list[Any] | None = None,
    tags: list[Any] | None = None,
) -> None:
    """Write MLflow's entities to a run, in batches of the size that MLflow accepts.

    Args:
        client: that writes.
        run_id: of the run.
        metrics: Metric entities.
        params: Param entities.
        tags: RunTag entities; up to BATCH of them are in one request.
    """
    rest = [list(metrics), list(params or ()), list(tags or ())]
    sizes = (800, BATCH, BATCH)
    while any(rest):
        piece = [items[:size] for items, size in zip(rest, sizes, strict=True)]
        client.log_batch(run_id, metrics=piece[0], params=piece[1], tags=piece[2])
        rest = [items[size:] for items, size in zip(rest, sizes, strict=True)]


def set_state(
    client: Writer,
    run_id: str,
    state: State,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Set a run's state, and MLflow's own status with it.

    Args:
        client: that writes.
        run_id: of the run.
        state: the new one; any other than RUNNING ends the run in MLflow, too.
        tags: name -> text, written with the state.
    """
    log(client, run_id, tags={Tag.STATE: state, **(tags or {})})
    if state is State.RUNNING:
        client.update_run(run_id, status=RUN_STATUS[state])
    else:
        client.set_terminated(run_id, status=RUN_STATUS[state])


def _plain(value: Any) -> str:
    """PostgreSQL takes no NUL in a text; MLflow's server then answers 500, for ever."""
    return str(value).replace("\0", "\\0")
