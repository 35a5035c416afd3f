"""Write to a run of the store. All writes are idempotent: a repeated one changes nothing.

If the same point of a metric, param or tag is written again, MLflow stores it once.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.machine import scratch_folder
from harness.store.schema import RUN_STATUS, Kind, State, Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from ship.trial_config import TrialConfig

# Maximum length in characters. MLflow truncates longer values.
MAX_TAG, MAX_PARAM, MAX_DIGEST = 8000, 6000, 36
MAX_METRICS = 800  # that fit into one request with the maximum of params and tags
# Maximum size in bytes of a run's file, which the driver keeps in memory. The largest file of a
# trained model fits.
MAX_BYTES = 40 * 2**20
# Reasons why a trial's run was interrupted.
INTERRUPTED = "the study was interrupted"
DRIVER_DIED = "its driver ended before it closed the run"


def get_time_ms() -> int:
    """Return the current time in milliseconds since the epoch."""
    return int(time.time() * 1000)


class Point(NamedTuple):
    """A metric's value at a step.

    Attributes:
        key: Key of the metric.
        value: Its value.
        timestamp: Time in milliseconds since the epoch.
        step: Step of the metric, usually an epoch.
    """

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class RunUpdate:
    """A write to one run. The fields are written in their order, so the state is written last.

    Attributes:
        run: MLflow's ID of the run.
        files: Contents by path among the run's artifacts, e.g. "trained/seed_0.safetensors".
        metrics: Points of metrics.
        params: Texts by name, truncated to MAX_PARAM characters.
        tags: Texts by name, truncated to MAX_TAG characters (see `split_tag`).
        datasets: Fingerprint of each dataset by name. MLflow lists them as the run's inputs.
        state: New state of the run. None keeps the current one.
        time_ms: Time of the changes in milliseconds since the epoch. If the state is final, it is
            the run's end time.
    """

    run: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    metrics: Sequence[Point] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    state: State | None = None
    time_ms: int = field(default_factory=get_time_ms)


def make_points(metrics: Mapping[str, float], step: int = 0) -> list[Point]:
    """Return metric values as points with the current time."""
    timestamp = get_time_ms()
    return [Point(name, value, timestamp, step) for name, value in metrics.items()]


def write_update(client: "MlflowClient", update: RunUpdate) -> None:
    """Write changes to their run.

    Args:
        client: Client of the store.
        update: Changes of one run.

    Raises:
        Exception: Any error of MLflow's client.
    """
    from mlflow.entities import Metric, Param, RunTag

    run_id, tags = update.run, dict(update.tags)
    if update.state:
        tags[Tag.STATE] = update.state
    for name, content in update.files.items():
        _log_file(client, run_id, name, content)
    metrics = [Metric(*point) for point in update.metrics]
    params = [Param(name, escape_text(text)[:MAX_PARAM]) for name, text in update.params.items()]
    # MLflow itself splits large requests, but writes the remaining metrics after
    # the tags. A run that is COMPLETE must already have its numbers.
    if len(metrics) > MAX_METRICS:
        client.log_batch(run_id, metrics=metrics[MAX_METRICS:])
    marks = [RunTag(name, escape_text(text)[:MAX_TAG]) for name, text in tags.items()]
    client.log_batch(run_id, metrics=metrics[:MAX_METRICS], params=params, tags=marks)
    if update.datasets:
        client.log_inputs(run_id, datasets=_dataset_inputs(update.datasets))
    if update.state is State.RUNNING:
        client.update_run(run_id, status=RUN_STATUS[State.RUNNING])
    elif update.state:
        client.set_terminated(run_id, status=RUN_STATUS[update.state], end_time=update.time_ms)


def _dataset_inputs(datasets: Mapping[str, str]) -> list[Any]:
    """Return the inputs of a run for MLflow: name and digest of each dataset."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    context = InputTag(MLFLOW_DATASET_CONTEXT, "training and test")
    return [
        DatasetInput(Dataset(name, digest[:MAX_DIGEST], "ship-sweep", name), [context])
        for name, digest in datasets.items()
    ]


def find_runs(client: "MlflowClient", experiment_id: str, key: str) -> list[Any]:
    """Find the runs with a key (Tag.RUN_KEY): one, or more if a request arrived late.

    Args:
        client: Client of the store.
        experiment_id: ID of the study's experiment.
        key: Key of the run.
    """
    query = f"tags.`{Tag.RUN_KEY}` = '{key}'"
    return list(client.search_runs([experiment_id], filter_string=query, max_results=10))


def run_priority(run: Any) -> tuple[bool, int, str]:
    """Return a sort key for runs with the same Tag.RUN_KEY: the run in use has the largest."""
    data = run.data
    written = len(data.params) + len(data.metrics) + len(data.tags)
    return run.info.status != "RUNNING", written, str(run.info.run_id)


def escape_text(text: str) -> str:
    """Return a text that any store accepts.

    NUL is escaped because PostgreSQL refuses it, and MLflow's server then answers 500.
    """
    return text.encode(errors="replace").decode().replace("\0", "\\0")


def _log_file(client: "MlflowClient", run_id: str, name: str, content: bytes) -> None:
    """Write a file to a run's artifacts.

    Raises:
        Exception: Any error of MLflow's client.
    """
    relative_path = PurePosixPath(name)
    folders = [str(relative_path.parent)] if relative_path.parent.name else []
    with scratch_folder() as folder:
        path = folder / relative_path.name
        path.write_bytes(content)
        client.log_artifact(run_id, str(path), *folders)


def close_dead_runs(client: "MlflowClient", experiment_id: str, reason: str = DRIVER_DIED) -> int:
    """Mark runs that a dead driver left RUNNING as INTERRUPTED.

    A run whose final state was written, but not yet MLflow's status, keeps that state. A duplicate
    run is deleted: its creation timed out, and a second run with the same key was created and used.

    Args:
        client: Client of the store.
        experiment_id: ID of the study's experiment.
        reason: Why a trial's run was interrupted.

    Returns:
        The number of runs that were RUNNING.
    """
    dead = client.search_runs(
        [experiment_id], filter_string="attributes.status = 'RUNNING'", max_results=1000
    )
    for run in dead:
        run_id, tags = run.info.run_id, run.data.tags
        twins = find_runs(client, experiment_id, tags[Tag.RUN_KEY]) if Tag.RUN_KEY in tags else []
        if any(run_priority(twin) > run_priority(run) for twin in twins):
            client.set_terminated(run_id, status="KILLED")
            client.delete_run(run_id)
            continue
        written = tags.get(Tag.STATE, "")  # untrusted: tags can be edited
        state = State(written) if written in {*State} else State.RUNNING
        reason_tags: dict[str, str] = {}
        if state is State.RUNNING:
            state = State.INTERRUPTED
            reason_tags = {Tag.REASON: reason} if tags.get(Tag.KIND) == Kind.TRIAL else {}
        write_update(client, RunUpdate(run=run_id, tags=reason_tags, state=state))
    return len(dead)


def split_tag(name: str, text: str) -> dict[str, str]:
    """Split a long tag into NAME, NAME.1, NAME.2 and so on: MLflow truncates at 8000 characters.

    Args:
        name: Name of the first tag.
        text: Full text of the tag.
    """
    return {
        f"{name}.{index}" if index else name: text[index * MAX_TAG : (index + 1) * MAX_TAG]
        for index in range(max(1, -(-len(text) // MAX_TAG)))
    }


def list_params(config: "TrialConfig") -> dict[str, str]:
    """Return every dotted field of a trial as text, and the name of each method by its group."""
    texts: dict[str, str] = {}

    def walk(prefix: str, group: Mapping[str, Any]) -> None:
        for name, value in group.items():
            if isinstance(value, dict):
                if "name" in value:
                    texts[f"{prefix}{name}"] = value["name"]
                walk(f"{prefix}{name}.", value)
            else:
                texts[f"{prefix}{name}"] = format_param(value)

    walk("", config.model_dump(mode="json"))
    return texts


def format_param(value: Any) -> str:
    """Return the value of a key as MLflow shows it."""
    return value if isinstance(value, str) else json.dumps(value, default=list)
