"""The writing half of MLflow's client, for a study that goes on while its store is away."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.store.errors import StoreAway, StoreError
from harness.store.lock.lease import StudyLost
from harness.store.open import Store
from harness.store.outbox.calls import CREATE, LOCAL, Sender, batch
from harness.store.outbox.delivery import Courier, Say
from harness.store.outbox.folder import Drivers, queue_path, queues, take_over
from harness.store.outbox.journal import Head, QueueError, QueueFile
from reports.contract import Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

FOLDER = "outbox"

CLIENT_ENVIRONMENT = {
    # MLflow's own retries make a run again without looking for it, and hold Tune's loop up
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

T = TypeVar("T")


class Outbox:
    """Calls named as MlflowClient's, which return before the store has them if it is away.

    A run that is made then has an id of its own, which stands for the store's in later calls.
    """

    def __init__(self, courier: Courier, sender: Sender) -> None:
        self._courier = courier
        self._sender = sender

    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Make a run that begins now; its id, or one of its own."""
        key = uuid.uuid4().hex
        arguments = {
            "experiment_id": experiment_id,
            "start_time": _now(),
            "tags": {**tags, Tag.RUN_KEY: key},
            "run_name": name,
        }
        self._courier.write(CREATE, arguments)
        return self._sender.made.get(key, LOCAL + key)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Any] = (),
        params: Sequence[Any] = (),
        tags: Sequence[Any] = (),
    ) -> None:
        """As MlflowClient.log_batch."""
        self._courier.write("log_batch", batch(run_id, metrics, params, tags))

    def set_terminated(self, run_id: str, status: str) -> None:
        """As MlflowClient.set_terminated: the run ended now, whenever the store hears of it."""
        arguments = {"run_id": run_id, "status": status, "end_time": _now()}
        self._courier.write("set_terminated", arguments)

    def update_run(self, run_id: str, status: str) -> None:
        """As MlflowClient.update_run."""
        self._courier.write("update_run", {"run_id": run_id, "status": status})

    def delete_tag(self, run_id: str, key: str) -> None:
        """As MlflowClient.delete_tag, but a tag that is not there is no fault."""
        self._courier.write("delete_tag", {"run_id": run_id, "key": key})

    def stored_id(self, run_id: str) -> str:
        """The store's id of a run, which is waited for."""
        if run_id.startswith(LOCAL):
            self._courier.settle()
        return self._sender.stored(run_id)

    def read(self, ask: Callable[["MlflowClient"], T]) -> T:
        """Ask the store something once it has all writes; waits as Courier.read does."""
        return self._courier.read(ask)

    def hurry(self) -> None:
        """Somebody has asked the study to stop: nothing is waited for any more, but seconds."""
        self._courier.hurry()


def waiting_note(uri: str, study: str, cache_dir: Path) -> str | None:
    """A line for whoever plans with a store that lacks what waits on disk; None: nothing does."""
    from reports.contract import redacted

    found = queues(cache_dir / FOLDER, redacted(uri), study)
    if not found:
        return None
    path = ", ".join(map(str, found))
    return (
        f"writes of an earlier run wait in {path}: this plan lacks them; a run sends them first, "
        f"unless another driver has run the study since"
    )


@contextmanager
def outbox(
    store: Store,
    study: str,
    experiment_id: str,
    cache_dir: Path,
    say: Say,
    drivers: Drivers | None = None,
) -> Iterator[Store]:
    """The store with an outbox; what the study's last driver left is sent before anything else.

    Args:
        say: shows one line.
        drivers: of the study; what others than the last one have left is set aside.

    Raises:
        StoreAway: writes are left on disk, of this run or an earlier one.
        StoreError: the store refuses one, or their file cannot be used.
    """
    from reports.contract import redacted

    uri = redacted(store.uri)
    try:
        drivers, folder = drivers or Drivers(), cache_dir / FOLDER
        for aside in take_over(folder, uri, study, drivers):
            say(
                f"another driver has run the study since: writes of one that it replaced are left "
                f"out, and kept in {aside}"
            )
        path = queue_path(folder, uri, study, drivers.own)
        queue = QueueFile(path, Head(uri, study, experiment_id))
    except QueueError as error:
        raise StoreError(str(error)) from error
    if queue.waiting:
        say(f"{len(queue.waiting)} writes of an earlier run wait in {path}: sending them")
    sender = Sender(store.client, experiment_id, queue.runs)
    courier = Courier(store.uri, sender, queue, say)
    try:
        courier.settle()
        yield replace(store, outbox=Outbox(courier, sender))
        courier.settle()
        courier.read(lambda _: sender.drop_twins())
    except StoreAway as error:
        raise StoreAway(courier.left()) from error  # writes were added after it was raised
    except StoreError:
        raise
    except StudyLost:
        if courier.waiting:
            say(f"left out, as another driver has the study: {courier.waiting} writes in {path}")
        raise
    except BaseException:
        if courier.waiting:
            say(courier.left())
        raise
    finally:
        courier.close()


def _now() -> int:
    return int(time.time() * 1000)
