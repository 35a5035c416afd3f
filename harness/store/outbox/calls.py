"""The calls of MLflow's client that a queue holds: sent twice they leave the store as sent once.

MLflow takes a metric's point, a param or a tag again without a trace. What it does not take again
is made so here: a run is looked for by its key before it is made once more, and a tag that is to go
may be gone.
"""

import base64
import errno
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.store.datasets import Dataset, log_datasets
from harness.store.files import keep_file, keep_files
from harness.store.outbox.retryable import reason, transient
from reports.contract import Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

CREATE = "create_run"
# how the id of a run begins that the store does not have yet; its key follows
LOCAL = "local-"
GONE = "RESOURCE_DOES_NOT_EXIST"
# Of a file that a store refuses while it answers questions. A file takes two requests, so that two
# tries would lose one file in thirty where one request in ten fails.
FILE_TRIES = 6

# A disk that has no room for the file, or no more room for this user.
FULL = (errno.ENOSPC, errno.EDQUOT)

Arguments = Mapping[str, Any]


class Sender:
    """Makes calls, and knows which run of the store a run's own id stands for."""

    def __init__(self, client: "MlflowClient", experiment_id: str, made: dict[str, str]) -> None:
        """Use a client for one experiment.

        Args:
            client: of the store.
            experiment_id: the study's experiment.
            made: key -> the store's id, of the runs that were made; it grows.
        """
        self.client = client
        self.made = made
        self._experiment_id = experiment_id

    def send(self, call: str, arguments: Arguments, *, again: bool) -> None:
        """Make a call.

        Args:
            call: name of the call.
            arguments: in JSON's types.
            again: it may have been made before.
        """
        if call != CREATE:
            perform(self.client, call, {**arguments, "run_id": self.stored(arguments["run_id"])})
            return
        key = arguments["tags"][Tag.RUN_KEY]
        known = self._find(key) if again else None
        self.made[key] = known or str(self.client.create_run(**arguments).info.run_id)

    def stored(self, run_id: str) -> str:
        """The store's id of a run.

        Raises:
            LookupError: no run was made.
        """
        if not run_id.startswith(LOCAL):
            return run_id
        key = run_id.removeprefix(LOCAL)
        known = self.made.get(key) or self._find(key)
        if known is None:
            raise LookupError(f"no run was made for {run_id}")
        return known

    def drop_twins(self) -> None:
        """Delete runs that a request made which reached the store after it was given up."""
        query = "attributes.status = 'RUNNING'"
        for run in self.client.search_runs([self._experiment_id], filter_string=query):
            ours = self.made.get(run.data.tags.get(Tag.RUN_KEY, ""))
            if ours is not None and ours != run.info.run_id:
                drop_run(self.client, run.info.run_id)

    def _find(self, key: str) -> str | None:
        found = runs_of(self.client, self._experiment_id, key)
        return str(found[0].info.run_id) if found else None


def batch(
    run_id: str, metrics: Iterable[Any], params: Iterable[Any], tags: Iterable[Any]
) -> dict[str, Any]:
    """The arguments of log_batch in JSON's types.

    Args:
        run_id: of the run.
        metrics, params, tags: MLflow's entities Metric, Param and RunTag.
    """
    return {
        "run_id": run_id,
        "metrics": [[m.key, float(m.value), int(m.timestamp), int(m.step)] for m in metrics],
        "params": [[param.key, str(param.value)] for param in params],
        "tags": [[tag.key, str(tag.value)] for tag in tags],
    }


def file_call(run_id: str, name: str, content: bytes) -> dict[str, Any]:
    """The arguments of log_file in JSON's types.

    Args:
        run_id: of the run.
        name: of the file among the run's artifacts.
        content: of the file.
    """
    return {"run_id": run_id, "name": name, "content": _text(content)}


def files_call(run_id: str, folder: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The arguments of log_files in JSON's types.

    Args:
        run_id: of the run.
        folder: among the run's artifacts.
        files: name -> content.
    """
    contents = {name: _text(content) for name, content in files.items()}
    return {"run_id": run_id, "folder": folder, "files": contents}


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def perform(client: "MlflowClient", call: str, arguments: Arguments) -> None:
    """Make a call other than create_run.

    Args:
        client: of the store.
        call: name of the call.
        arguments: in JSON's types, with the store's own id of the run.

    Raises:
        ValueError: there is no such call.
    """
    if call not in _CALLS:
        raise ValueError(f"no call {call!r} (choices: {', '.join(_CALLS)})")
    _CALLS[call](client, arguments)


def runs_of(client: "MlflowClient", experiment_id: str, key: str) -> list[Any]:
    """The runs with a key: one, unless a request reached the store after it was given up.

    Args:
        client: of the store.
        experiment_id: the study's experiment.
        key: of the run (Tag.RUN_KEY).

    Returns:
        MLflow's runs; none where the store has not made the run.
    """
    query = f"tags.`{Tag.RUN_KEY}` = '{key}'"
    return list(client.search_runs([experiment_id], filter_string=query, max_results=10))


def drop_run(client: "MlflowClient", run_id: str) -> None:
    """Take a run that another one stands for out of the experiment."""
    client.set_terminated(run_id, status="KILLED")
    client.delete_run(run_id)


def _log_batch(client: "MlflowClient", arguments: Arguments) -> None:
    from mlflow.entities import Metric, Param, RunTag

    client.log_batch(
        arguments["run_id"],
        metrics=[Metric(*point) for point in arguments["metrics"]],
        params=[Param(*param) for param in arguments["params"]],
        tags=[RunTag(*tag) for tag in arguments["tags"]],
    )


def _log_file(client: "MlflowClient", arguments: Arguments) -> None:
    run_id, name = arguments["run_id"], arguments["name"]
    content = base64.b64decode(arguments["content"])
    _unless_refused(client, run_id, name, lambda: keep_file(client, run_id, name, content))


def _log_files(client: "MlflowClient", arguments: Arguments) -> None:
    run_id, folder = arguments["run_id"], arguments["folder"]
    files = {name: base64.b64decode(text) for name, text in arguments["files"].items()}
    _unless_refused(client, run_id, f"{folder}/", lambda: keep_files(client, run_id, folder, files))


def _unless_refused(
    client: "MlflowClient", run_id: str, name: str, keep: Callable[[], None]
) -> None:
    """Keep files among a run's artifacts. Where they are refused, the study goes on without them.

    A server may take numbers and not files, say for want of the right to write where they go, and
    then answers as if it were away (500). It is away if it does not answer a question either. A
    disk of this machine that is full refuses more than files: that ends the study.
    """
    for _ in range(FILE_TRIES):
        try:
            keep()
            return
        except UserError:  # another driver has taken the study over
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise  # of this machine: the next run, with space, has the file
            told = reason(error)
            if not transient(error, client.tracking_uri):
                break
            _require_answer(client, run_id)
    logger.warning("%s could not be kept in MLflow: %s", name, told)


def _require_answer(client: "MlflowClient", run_id: str) -> None:
    """Raise what the client raises where the store is away.

    It is asked twice: a server that refuses a file may close the connection that it came by, and
    the next request finds it closed.
    """
    try:
        client.get_run(run_id)
    except UserError:
        raise
    except Exception:
        client.get_run(run_id)


def _log_datasets(client: "MlflowClient", arguments: Arguments) -> None:
    log_datasets(client, arguments["run_id"], [Dataset(*one) for one in arguments["datasets"]])


def _delete_tag(client: "MlflowClient", arguments: Arguments) -> None:
    from mlflow.exceptions import MlflowException

    run_id, key = arguments["run_id"], arguments["key"]
    try:
        client.delete_tag(run_id, key)
    except MlflowException as error:
        if error.error_code != GONE or key in client.get_run(run_id).data.tags:
            raise


_CALLS: dict[str, Callable[["MlflowClient", Arguments], None]] = {
    "log_batch": _log_batch,
    "log_file": _log_file,
    "log_files": _log_files,
    "log_datasets": _log_datasets,
    "set_terminated": lambda client, arguments: client.set_terminated(**arguments),
    "update_run": lambda client, arguments: client.update_run(**arguments),
    "delete_tag": _delete_tag,
}
