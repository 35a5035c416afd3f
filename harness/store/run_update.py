"""Write to the runs of the store. All writes are idempotent, so they can be repeated.

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

# Maximum length in characters of a tag, a param and a dataset's digest in MLflow.
MAX_TAG, MAX_PARAM, MAX_DIGEST = 8000, 6000, 36
# Metrics per request: MLflow accepts 1000 entries, of which 100 may be params and 100 tags.
MAX_METRICS = 800
# Maximum size in bytes of a file that is written to or copied from a run. It limits the driver's
# memory; the largest file of a trained model is smaller.
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
    """A write to one run: files, then metrics, params and tags, then MLflow's status.

    Attributes:
        run_id: MLflow's ID of the run.
        files: Contents by path among the run's artifacts, e.g. "trained/seed_0.safetensors".
        metrics: Points of metrics.
        params: Texts by name, truncated to MAX_PARAM characters.
        tags: Texts by name, truncated to MAX_TAG characters (see `split_tag`).
        datasets: Fingerprints of datasets by name. MLflow lists the datasets as the run's inputs.
        state: New state of the run. Defaults to the current one.
        time_ms: Time of the changes in milliseconds since the epoch. If the state is final, it is
            the run's end time.
    """

    run_id: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    metrics: Sequence[Point] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    state: State | None = None
    time_ms: int = field(default_factory=get_time_ms)


def make_points(metrics: Mapping[str, float], step: int = 0) -> list[Point]:
    """Return the values of metrics as points of a step, with the current time."""
    timestamp = get_time_ms()
    return [Point(name, value, timestamp, step) for name, value in metrics.items()]


def write_update(client: "MlflowClient", update: RunUpdate) -> None:
    """Write an update to its run.

    Args:
        client: Client of the store.
        update: Changes to one run.

    Raises:
        Exception: Any error of MLflow's client.
    """
    from mlflow.entities import Metric, Param, RunTag

    run_id, tags = update.run_id, dict(update.tags)
    if update.state:
        tags[Tag.STATE] = update.state
    for name, content in update.files.items():
        _log_file(client, run_id, name, content)
    metrics = [Metric(*point) for point in update.metrics]
    params = [Param(name, escape_text(text)[:MAX_PARAM]) for name, text in update.params.items()]
    # MLflow would split a large request itself, but write some metrics after the tags. A run whose
    # tag says COMPLETE must already have its numbers.
    if len(metrics) > MAX_METRICS:
        client.log_batch(run_id, metrics=metrics[MAX_METRICS:])
    run_tags = [RunTag(name, escape_text(text)[:MAX_TAG]) for name, text in tags.items()]
    client.log_batch(run_id, metrics=metrics[:MAX_METRICS], params=params, tags=run_tags)
    if update.datasets:
        client.log_inputs(run_id, datasets=_make_dataset_inputs(update.datasets))
    if update.state is State.RUNNING:
        client.update_run(run_id, status=RUN_STATUS[State.RUNNING])
    elif update.state:
        client.set_terminated(run_id, status=RUN_STATUS[update.state], end_time=update.time_ms)


def _make_dataset_inputs(datasets: Mapping[str, str]) -> list[Any]:
    """Return MLflow's entities of a run's input datasets.

    Args:
        datasets: Fingerprints of the datasets by name.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    context = InputTag(MLFLOW_DATASET_CONTEXT, "training and test")
    return [
        DatasetInput(Dataset(name, digest[:MAX_DIGEST], "ship-sweep", name), [context])
        for name, digest in datasets.items()
    ]


def find_runs(client: "MlflowClient", experiment_id: str, key: str) -> list[Any]:
    """Return the runs with a key (Tag.RUN_KEY).

    There are several if a request to create the run timed out, was repeated, and both succeeded.

    Args:
        client: Client of the store.
        experiment_id: ID of the study's experiment.
        key: Key of the run.
    """
    query = f"tags.`{Tag.RUN_KEY}` = '{key}'"
    return list(client.search_runs([experiment_id], filter_string=query, max_results=10))


def rank_run(run: Any) -> tuple[bool, int, str]:
    """Return a sort key for duplicate runs with the same Tag.RUN_KEY.

    The run in use has the largest key: a duplicate is still RUNNING and has fewer entries.
    """
    data = run.data
    n_entries = len(data.params) + len(data.metrics) + len(data.tags)
    return run.info.status != "RUNNING", n_entries, str(run.info.run_id)


def escape_text(text: str) -> str:
    r"""Return a text that any store accepts. Replace lone surrogates by ? and NUL by \0.

    PostgreSQL refuses NUL, and MLflow's server then answers 500.
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

    If the driver had written a run's final state as a tag, but not yet MLflow's status, the run
    keeps that state. A run is deleted if it is a duplicate: the request that created it timed out,
    and another run with the same key is in use.

    Args:
        client: Client of the store.
        experiment_id: ID of the study's experiment.
        reason: Reason to write to the interrupted runs of trials.

    Returns:
        The number of runs with MLflow's status RUNNING, at most 1000.

    Raises:
        Exception: Any error of MLflow's client.
    """
    dead_runs = client.search_runs(
        [experiment_id], filter_string="attributes.status = 'RUNNING'", max_results=1000
    )
    for run in dead_runs:
        run_id, tags = run.info.run_id, run.data.tags
        key = tags.get(Tag.RUN_KEY)
        duplicates = find_runs(client, experiment_id, key) if key is not None else []
        if any(rank_run(duplicate) > rank_run(run) for duplicate in duplicates):
            client.set_terminated(run_id, status="KILLED")
            client.delete_run(run_id)
            continue
        stored_state = tags.get(Tag.STATE, "")  # untrusted: tags can be edited
        state = State(stored_state) if stored_state in {*State} else State.RUNNING
        reason_tags: dict[str, str] = {}
        if state is State.RUNNING:
            state = State.INTERRUPTED
            reason_tags = {Tag.REASON: reason} if tags.get(Tag.KIND) == Kind.TRIAL else {}
        write_update(client, RunUpdate(run_id=run_id, tags=reason_tags, state=state))
    return len(dead_runs)


def split_tag(name: str, text: str) -> dict[str, str]:
    """Split a text into the tags NAME, NAME.1 and so on, because MLflow truncates long tags.

    Args:
        name: Name of the first tag.
        text: Text of any length.

    Returns:
        Tags of at most MAX_TAG characters by name. `join_tag` joins them.
    """
    return {
        f"{name}.{index}" if index else name: text[index * MAX_TAG : (index + 1) * MAX_TAG]
        for index in range(max(1, -(-len(text) // MAX_TAG)))
    }


def list_params(config: "TrialConfig") -> dict[str, str]:
    """Return a trial's config as MLflow params: text by dotted name.

    The name of a method is the param with the name of its group, e.g. "generator".
    """
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
    """Return a value as the text of a param: text unchanged, and other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=list)
