"""The writing half of MLflow's client, for a study that goes on while its store is away."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.store.datasets import Dataset
from harness.store.errors import StoreAway, StoreError
from harness.store.lock.lease import StudyLost
from harness.store.open import Store
from harness.store.outbox.announcements import Say
from harness.store.outbox.calls import CREATE, LOCAL, Sender, batch, file_call, files_call
from harness.store.outbox.delivery import Courier
from harness.store.outbox.journal import Drivers, Head, Journal, waits
from reports.contract import Tag

FOLDER, FILE = "outbox", "queue.sqlite3"

CLIENT_ENVIRONMENT = {
    # MLflow's own retries make a run again without looking for it, and hold Tune's loop up
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # at the end of each run it would print the address, with the store's password, to stdout
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Outbox(Courier):
    """Calls named as MlflowClient's, which return before the store has them if it is away.

    A run that is made then has an id of its own, which stands for the store's in later calls.
    """

    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Make a run that begins now; see WaitingWriter."""
        key = uuid.uuid4().hex
        arguments = {
            "experiment_id": experiment_id,
            "start_time": _now(),
            "tags": {**tags, Tag.RUN_KEY: key},
            "run_name": name,
        }
        self.write(CREATE, arguments)
        return self.sender.made.get(key, LOCAL + key)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Any] = (),
        params: Sequence[Any] = (),
        tags: Sequence[Any] = (),
    ) -> None:
        """As MlflowClient.log_batch."""
        self.write("log_batch", batch(run_id, metrics, params, tags))

    def log_file(self, run_id: str, name: str, content: bytes) -> None:
        """Keep a file among a run's artifacts; see WaitingWriter."""
        self.write("log_file", file_call(run_id, name, content))

    def log_files(self, run_id: str, folder: str, files: Mapping[str, bytes]) -> None:
        """Keep files in a folder among a run's artifacts; see WaitingWriter."""
        self.write("log_files", files_call(run_id, folder, files))

    def log_datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        """Name the datasets that a run reads; see WaitingWriter."""
        self.write("log_datasets", {"run_id": run_id, "datasets": [list(one) for one in datasets]})

    def set_terminated(self, run_id: str, status: str) -> None:
        """As MlflowClient.set_terminated: the run ended now, whenever the store hears of it."""
        arguments = {"run_id": run_id, "status": status, "end_time": _now()}
        self.write("set_terminated", arguments)

    def update_run(self, run_id: str, status: str) -> None:
        """As MlflowClient.update_run."""
        self.write("update_run", {"run_id": run_id, "status": status})

    def delete_tag(self, run_id: str, key: str) -> None:
        """As MlflowClient.delete_tag, but a tag that is not there is no fault."""
        self.write("delete_tag", {"run_id": run_id, "key": key})

    def stored_id(self, run_id: str) -> str:
        """The store's id of a run, which is waited for."""
        if run_id.startswith(LOCAL):
            self.flush()
        return self.sender.stored(run_id)


def waiting_note(uri: str, study: str, cache_dir: Path) -> str | None:
    """A line for whoever plans with a store that lacks what waits on disk; None: nothing does.

    Args:
        uri: address of the store.
        study: name of the experiment.
        cache_dir: holds the folder in which writes wait.
    """
    from reports.contract import store_key

    path = cache_dir / FOLDER / FILE
    try:
        if not waits(path, store_key(uri), study):
            return None
    except StoreError as error:  # a run will be refused for it; a plan can be made
        return str(error)
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
        store: where writes go.
        study: name of the experiment.
        experiment_id: its id.
        cache_dir: holds the folder in which writes wait.
        say: shows one line.
        drivers: of the study; what others than the last one have left is set aside.

    Raises:
        StoreAway: writes are left on disk, of this run or an earlier one.
        StoreError: the store refuses one, or their file cannot be used.
    """
    from reports.contract import store_key

    path = cache_dir / FOLDER / FILE
    journal = Journal(path, Head(store_key(store.uri), study, experiment_id), drivers or Drivers())
    if journal.left_out:
        say(
            f"another driver has run the study since: writes of one that it replaced are left out, "
            f"and kept in {path}"
        )
    if journal.waiting:
        say(f"{len(journal.waiting)} writes of an earlier run wait in {path}: sending them")
    sender = Sender(store.client, experiment_id, journal.runs)
    box = Outbox(store.uri, sender, journal, say)
    try:
        box.flush()
        yield replace(store, outbox=box)
        box.flush()
        box.read(lambda _: sender.drop_twins())
    except StoreAway as error:
        raise StoreAway(box.left()) from error  # writes were added after it was raised
    except StoreError:
        raise
    except StudyLost:
        if box.waiting:
            say(f"left out, as another driver has the study: {box.waiting} writes in {path}")
        raise
    except BaseException:
        if box.waiting:
            say(box.left())
        raise
    finally:
        box.close()


def _now() -> int:
    return int(time.time() * 1000)
