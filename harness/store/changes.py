"""What is to be written to a run of the store: sent twice, it leaves the run as sent once.

MLflow takes a metric's point, a param or a tag again without a trace. What it does not take again
is made so here: a run is looked for by its key before it is made once more.
"""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.machine import scratch
from harness.store.schema import RUN_STATUS, Kind, State, Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from ship.trial_config import TrialConfig

# Characters that MLflow takes: it cuts longer values off.
MAX_TAG, MAX_PARAM = 8000, 6000
MAX_METRICS = 800  # that it takes in a request beside as many params and tags as it takes
# Bytes of a file, which may have to wait on disk as text (study_store.py): so many has the largest
# file of what was trained under a seed.
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


class Changes(BaseModel):
    """What is written to one run, in the order of the fields, and its state therefore last.

    run: the store's id of it, or EXPERIMENT/KEY of one that an earlier one began.
    name: of a run that is begun with these changes; "": it is there, or an earlier one began it.
    at: when they were made, milliseconds since the epoch: a run began then, or ended.
    files: path among its artifacts, as in "trained/seed_0.safetensors" -> content.
    metrics, params: points, and texts by name, cut after MAX_PARAM characters.
    tags: name -> text, cut after MAX_TAG characters (see split_tag).
    state: that the run is in from now on, any other than RUNNING its last; None: as it is.
    """

    model_config = ConfigDict(
        frozen=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        ser_json_inf_nan="constants",
    )

    run: str
    name: str = ""
    at: int = Field(default_factory=now)
    files: Mapping[str, bytes] = {}
    metrics: Sequence[Point] = ()
    params: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    state: State | None = None

    @field_validator("params", "tags")
    @classmethod
    def _are_plain(cls, texts: Mapping[str, str]) -> dict[str, str]:
        return {name: plain(text) for name, text in texts.items()}

    @classmethod
    def of_new_run(cls, experiment_id: str, name: str, **others: Any) -> "Changes":
        """Those that a run of an experiment begins with; their `run` is its name from then on."""
        return cls(run=f"{experiment_id}/{uuid.uuid4().hex}", name=name, **others)


def points(metrics: Mapping[str, float], step: int = 0) -> list[Point]:
    """Values by name as points of now."""
    time_of_all = now()
    return [Point(name, value, time_of_all, step) for name, value in metrics.items()]


def send(
    client: "MlflowClient", changes: Changes, made: dict[str, str], *, resend: bool = False
) -> None:
    """Write changes to their run.

    Args:
        client: of the store.
        changes: of one run.
        made: EXPERIMENT/KEY -> the store's id, of runs that were made; it grows.
        resend: the changes may have been sent before.

    Raises:
        LookupError: the run was never made.
        Exception: whatever MLflow's client raises.
    """
    from mlflow.entities import Metric, Param, RunTag

    run_id = made.get(changes.run) or _found(client, changes, resend)
    tags = {name: text[:MAX_TAG] for name, text in changes.tags.items()}
    if changes.state:
        tags[Tag.STATE] = changes.state
    if run_id is None:
        experiment_id, _, key = changes.run.partition("/")
        run = client.create_run(
            experiment_id,
            start_time=changes.at,
            tags={**tags, Tag.RUN_KEY: key},
            run_name=changes.name,
        )
        run_id, tags = str(run.info.run_id), {}
    made[changes.run] = run_id
    for name, content in changes.files.items():
        _keep_file(client, run_id, name, content)
    metrics = [Metric(*point) for point in changes.metrics]
    params = [Param(name, text[:MAX_PARAM]) for name, text in changes.params.items()]
    # MLflow itself parts what is too much for one request, but would write the metrics that are
    # left over behind the tags: a run that is COMPLETE has its numbers
    if len(metrics) > MAX_METRICS:
        client.log_batch(run_id, metrics=metrics[MAX_METRICS:])
    marks = [RunTag(name, text) for name, text in tags.items()]
    client.log_batch(run_id, metrics=metrics[:MAX_METRICS], params=params, tags=marks)
    if changes.state is State.RUNNING:
        client.update_run(run_id, status=RUN_STATUS[State.RUNNING])
    elif changes.state:
        client.set_terminated(run_id, status=RUN_STATUS[changes.state], end_time=changes.at)


def _found(client: "MlflowClient", changes: Changes, resend: bool) -> str | None:
    """The store's id of a run; None: it is to be made."""
    experiment_id, _, key = changes.run.rpartition("/")
    if not experiment_id:
        return changes.run
    if changes.name and not resend:
        return None
    found = max(runs_of(client, experiment_id, key), key=weight, default=None)
    if found is None and not changes.name:
        raise LookupError(f"no run was made for {changes.run}")
    return found and str(found.info.run_id)


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
        send(client, Changes(run=run_id, tags=why, state=state), {})
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
