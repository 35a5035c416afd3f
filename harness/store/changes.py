"""What is to be written to a run of the store: written twice, it leaves the run as written once.

MLflow takes a metric's point, a param or a tag again without a trace.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.machine import scratch
from harness.store.schema import RUN_STATUS, Kind, State, Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from ship.trial_config import TrialConfig

# Characters that MLflow takes: it cuts longer values off.
MAX_TAG, MAX_PARAM = 8000, 6000
MAX_METRICS = 800  # that it takes in a request beside as many params and tags as it takes
# Bytes of a file of a run, which the driver holds in memory: as many as the largest file of what
# was trained under a seed has.
MOST_BYTES = 40 * 2**20
# Why a trial's run was cut short.
INTERRUPTED = "the study was interrupted"
LEFT = "its driver ended without closing it"


def now() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


class Point(NamedTuple):
    """A metric's value at a step; timestamp: milliseconds since the epoch."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class Changes:
    """What is written to one run, in the order of the fields, and its state therefore last.

    Attributes:
        run: MLflow's ID of the run.
        files: Contents by path among the run's artifacts, e.g. "trained/seed_0.safetensors".
        metrics: Points of metrics.
        params: Texts by name, cut after MAX_PARAM characters.
        tags: Texts by name, cut after MAX_TAG characters (see split_tag).
        state: State of the run from now on. Defaults to the present one.
        at: When the changes were made, in milliseconds since the epoch: a run ended then.
    """

    run: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    metrics: Sequence[Point] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    state: State | None = None
    at: int = field(default_factory=now)


def points(metrics: Mapping[str, float], step: int = 0) -> list[Point]:
    """Values by name as points of now."""
    time_of_all = now()
    return [Point(name, value, time_of_all, step) for name, value in metrics.items()]


def send(client: "MlflowClient", changes: Changes) -> None:
    """Write changes to their run.

    Args:
        client: Client of the store.
        changes: Changes of one run.

    Raises:
        Exception: Whatever MLflow's client raises.
    """
    from mlflow.entities import Metric, Param, RunTag

    run_id, tags = changes.run, dict(changes.tags)
    if changes.state:
        tags[Tag.STATE] = changes.state
    for name, content in changes.files.items():
        _keep_file(client, run_id, name, content)
    metrics = [Metric(*point) for point in changes.metrics]
    params = [Param(name, plain(text)[:MAX_PARAM]) for name, text in changes.params.items()]
    # MLflow itself parts what is too much for one request, but would write the metrics that are
    # left over behind the tags: a run that is COMPLETE has its numbers
    if len(metrics) > MAX_METRICS:
        client.log_batch(run_id, metrics=metrics[MAX_METRICS:])
    marks = [RunTag(name, plain(text)[:MAX_TAG]) for name, text in tags.items()]
    client.log_batch(run_id, metrics=metrics[:MAX_METRICS], params=params, tags=marks)
    if changes.state is State.RUNNING:
        client.update_run(run_id, status=RUN_STATUS[State.RUNNING])
    elif changes.state:
        client.set_terminated(run_id, status=RUN_STATUS[changes.state], end_time=changes.at)


def runs_of(client: "MlflowClient", experiment_id: str, key: str) -> list[Any]:
    """The runs with a key (Tag.RUN_KEY): one, or more where a request arrived too late.

    Args:
        client: of the store.
        experiment_id: the study's experiment.
        key: of the run.
    """
    query = f"tags.`{Tag.RUN_KEY}` = '{key}'"
    return list(client.search_runs([experiment_id], filter_string=query, max_results=10))


def weight(run: Any) -> tuple[bool, int, str]:
    """Of several runs with one key, that which was written to has the largest."""
    data = run.data
    written = len(data.params) + len(data.metrics) + len(data.tags)
    return run.info.status != "RUNNING", written, str(run.info.run_id)


def plain(text: str) -> str:
    """A text that a store takes: PostgreSQL takes no NUL, and MLflow's server then answers 500."""
    return text.encode(errors="replace").decode().replace("\0", "\\0")


def _keep_file(client: "MlflowClient", run_id: str, name: str, content: bytes) -> None:
    """Write a file to a run's artifacts. It fails as any other write does."""
    place = PurePosixPath(name)
    inside = [str(place.parent)] if place.parent.name else []
    with scratch() as folder:
        path = folder / place.name
        path.write_bytes(content)
        client.log_artifact(run_id, str(path), *inside)


def close_dead_runs(client: "MlflowClient", experiment_id: str, reason: str = LEFT) -> int:
    """Mark runs that a dead driver left RUNNING as INTERRUPTED; returns how many there were.

    One whose last state was already written, and only MLflow's status was not, keeps that state.
    One that was made by a request which had been given up, so that another with its key was made
    and written to, is deleted.

    Args:
        client: of the store.
        experiment_id: of the study.
        reason: why a trial's run was cut short, for people.
    """
    dead = client.search_runs(
        [experiment_id], filter_string="attributes.status = 'RUNNING'", max_results=1000
    )
    for run in dead:
        run_id, tags = run.info.run_id, run.data.tags
        same = runs_of(client, experiment_id, tags[Tag.RUN_KEY]) if Tag.RUN_KEY in tags else []
        if any(weight(other) > weight(run) for other in same):
            client.set_terminated(run_id, status="KILLED")
            client.delete_run(run_id)
            continue
        written = tags.get(Tag.STATE, "")  # which somebody may have changed
        state = State(written) if written in {*State} else State.RUNNING
        why: dict[str, str] = {}
        if state is State.RUNNING:
            state = State.INTERRUPTED
            why = {Tag.REASON: reason} if tags.get(Tag.KIND) == Kind.TRIAL else {}
        send(client, Changes(run=run_id, tags=why, state=state))
    return len(dead)


def split_tag(name: str, text: str) -> dict[str, str]:
    """A tag of any length: MLflow cuts after 8000 characters, so it goes on in NAME.1, NAME.2.

    Args:
        name: of the first tag.
        text: the whole of it.
    """
    return {
        f"{name}.{index}" if index else name: text[index * MAX_TAG : (index + 1) * MAX_TAG]
        for index in range(max(1, -(-len(text) // MAX_TAG)))
    }


def params(config: "TrialConfig") -> dict[str, str]:
    """Every dotted field of a trial as MLflow shows it; a group with variants by its name too."""
    texts: dict[str, str] = {}

    def walk(prefix: str, group: Mapping[str, Any]) -> None:
        for name, value in group.items():
            if isinstance(value, dict):
                if "name" in value:
                    texts[f"{prefix}{name}"] = value["name"]
                walk(f"{prefix}{name}.", value)
            else:
                texts[f"{prefix}{name}"] = param_text(value)

    walk("", config.model_dump(mode="json"))
    return texts


def param_text(value: Any) -> str:
    """A setting's value as MLflow shows it."""
    return value if isinstance(value, str) else json.dumps(value, default=list)
