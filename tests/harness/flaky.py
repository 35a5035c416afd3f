"""A store in memory that behaves like MLflow, and a client that loses some requests and answers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from harness.store import Tag
from harness.store.study_store import StudyStore

URI = "http://me:geheim@server:5000"


class Crash(BaseException):  # noqa: N818  # it is not an error of the driver
    """Stands for the death of the driver."""


@dataclass
class FakeRun:
    """A run. Its points are unique and in the order of arrival."""

    name: str
    tags: dict[str, str]
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    points: list[tuple[Any, ...]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


class FakeStore:
    """The runs of a store by ID."""

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}

    def describe(self) -> list[tuple[Any, ...]]:
        """Return the content of the store without random parts, ordered by the runs' names."""
        return sorted(
            (
                run.name,
                run.status,
                sorted((k, v) for k, v in run.tags.items() if k != Tag.RUN_KEY),
                sorted(run.params.items()),
                run.points,
                sorted(run.files.items()),
            )
            for run in self.runs.values()
        )


class FlakyClient:
    """MLflow client of a FakeStore. `outcomes` has the outcome of each call, in order.

    - "ok": The call succeeds. So do all calls after the last outcome.
    - "before": The request is lost.
    - "after": The answer is lost.
    - "refused": The server answers with an HTTP status 4xx.
    - "crash before", "crash after": The caller dies before or after the request is handled.
    """

    tracking_uri = URI

    def __init__(self, store: FakeStore, outcomes: Iterator[str]) -> None:
        self.store = store
        self.outcomes = outcomes
        self.calls: list[str] = []

    def create_run(
        self, experiment_id: str, start_time: int, tags: dict[str, str], run_name: str
    ) -> Any:
        """Create a run, even if an equal one exists."""

        def create() -> Any:
            run_id = f"run-{len(self.store.runs)}"
            self.store.runs[run_id] = FakeRun(run_name, dict(tags))
            return _entity(run_id, self.store.runs[run_id])

        return self._call("create_run", create)

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        """Add points, params and tags. An existing point is not added again."""
        if not (metrics or params or tags):
            return  # like MLflow's client

        def add() -> None:
            run = self._run(run_id)
            for metric in metrics:
                point = (metric.key, metric.value, metric.timestamp, metric.step)
                if point not in run.points:
                    run.points.append(point)
            run.params.update({param.key: param.value for param in params})
            run.tags.update({tag.key: tag.value for tag in tags})

        self._call("log_batch", add)

    def log_inputs(self, run_id: str, datasets: Any) -> None:
        """Accept the datasets of a run."""
        self._call("log_inputs", lambda: self._run(run_id))

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str = "") -> None:
        """Save a file of a run."""
        content = Path(local_path).read_bytes()
        name = str(Path(artifact_path) / Path(local_path).name)
        self._call("log_artifact", lambda: self._run(run_id).files.update({name: content}))

    def set_terminated(self, run_id: str, status: str, end_time: int = 0) -> None:
        """Set the final status of a run."""
        self._call("set_terminated", lambda: setattr(self._run(run_id), "status", status))

    def update_run(self, run_id: str, status: str) -> None:
        """Set a run's status."""
        self._call("update_run", lambda: setattr(self._run(run_id), "status", status))

    def delete_run(self, run_id: str) -> None:
        """Delete a run."""
        self._call("delete_run", lambda: self.store.runs.pop(run_id))

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        """Log the call, which always succeeds."""
        self.calls.append("set_experiment_tag")

    def get_run(self, run_id: str) -> Any:
        """Return a run."""
        return self._call("get_run", lambda: _entity(run_id, self._run(run_id)))

    def search_runs(
        self, experiment_ids: list[str], filter_string: str = "", max_results: int = 0
    ) -> Any:
        """Return the runs whose key or status the filter contains."""

        def search() -> list[Any]:
            return [
                _entity(run_id, run)
                for run_id, run in self.store.runs.items()
                if f"'{run.tags.get(Tag.RUN_KEY)}'" in filter_string
                or (f"'{run.status}'" in filter_string)
            ]

        return self._call("search_runs", search)

    def _run(self, run_id: str) -> FakeRun:
        if run_id not in self.store.runs:
            raise MlflowException(f"Run with id={run_id} not found", RESOURCE_DOES_NOT_EXIST)
        return self.store.runs[run_id]

    def _call(self, name: str, act: Any) -> Any:
        self.calls.append(name)
        outcome = next(self.outcomes, "ok")
        if outcome == "refused":
            raise MlflowException("no such thing", RESOURCE_DOES_NOT_EXIST)
        if outcome == "crash before":
            raise Crash
        if outcome == "before":
            raise MlflowException(f"API request to {URI} failed: [Errno 111] Connection refused'")
        answer = act()
        if outcome == "after":
            raise MlflowException("too many 500 error responses")
        if outcome == "crash after":
            raise Crash
        return answer


def _entity(run_id: str, run: FakeRun) -> Any:
    return SimpleNamespace(
        info=SimpleNamespace(run_id=run_id, status=run.status, experiment_id="7"),
        data=SimpleNamespace(tags=dict(run.tags), params=dict(run.params), metrics={}),
    )


def make_study_store(
    fake: FakeStore, *outcomes: str, lines: list[str] | None = None, **keys: Any
) -> StudyStore:
    """Return a StudyStore whose client has these outcomes."""
    client: Any = FlakyClient(fake, iter(outcomes))
    print_line = print if lines is None else lines.append
    options: dict[str, Any] = {"timeout": 600.0, "is_stopped": lambda: False, **keys}
    return StudyStore(URI, client, "7", print_line=print_line, **options)
