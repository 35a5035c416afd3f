"""Files of a run, those of trained models among them, fetched from where MLflow keeps them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from harness.machine import environment, scratch
from harness.store.address import SERVED, SQLITE
from harness.store.changes import MOST_BYTES
from harness.store.errors import StoreError, reason, store_errors
from harness.store.schema import HITS, TRAINED, trained_file

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from harness.store.runs import Run

logger = logging.getLogger(__name__)

RUNS = "runs:/"
SUFFIX, SAID = ".safetensors", "trained.json"
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


@contextmanager
def fetched(uri: str, seed: int | None, store: str) -> Iterator[Path]:
    """A folder or file on this machine: what an address names, as long as it is needed."""
    if not urlparse(uri).scheme:
        yield Path(uri)
        return
    base, _, name = uri.rstrip("/").rpartition("/")
    if not name.endswith(SUFFIX):  # it names a folder
        base, name = uri.rstrip("/"), ""
    with store_errors(uri), environment(QUIET):
        base = _resolved(base, store)
    _require_trusted(base)
    place = urlparse(base)
    if place.scheme in ("", "file"):
        yield Path(unquote(place.path)) / name
        return
    if seed is not None and not name:
        name = trained_file(seed)
    with scratch() as folder:
        with store_errors(uri), environment(QUIET):
            from mlflow import artifacts

            for wanted in (SAID, name) if name else ("",):
                source = f"{base}/{wanted}".rstrip("/")
                found = artifacts.download_artifacts(
                    artifact_uri=source, dst_path=str(folder), tracking_uri=store
                )
        yield Path(found)


def _resolved(base: str, store: str) -> str:
    """Where a run's artifacts lie; of a run alone, its folder of what was trained."""
    if not base.startswith(RUNS):
        return base
    from mlflow.tracking import MlflowClient

    if store.startswith(SQLITE) and not Path(store.removeprefix(SQLITE)).exists():
        raise StoreError(f"{store}: no MLflow store here")  # MLflow would make one
    run_id, _, path = base.removeprefix(RUNS).strip("/").partition("/")
    run = MlflowClient(tracking_uri=store).get_run(run_id)
    return f"{run.info.artifact_uri.rstrip('/')}/{path or TRAINED}"


def _require_trusted(address: str) -> None:
    """Refuse an address to which MLflow would send the token of the tracking server.

    Raises:
        StoreError: it is one.
    """
    if urlparse(address).scheme not in ("", "file", *SERVED):
        raise StoreError(f"{address}: must be a path, or lie in one of {', '.join(SERVED)}")


def kept_files(client: "MlflowClient", run: "Run", *, trained: bool) -> dict[str, bytes] | None:
    """The files of a run by their path among its artifacts; None: they cannot be read now.

    Args:
        client: of the store.
        run: whose files they are.
        trained: whether what was trained is wanted, too, beside the right answers.

    Raises:
        Exception: whatever the client raises where the store is away.
    """
    wanted = {HITS, TRAINED} if trained else {HITS}
    try:
        _require_trusted(run.artifacts)
        with scratch() as folder, environment(QUIET):
            for one in client.list_artifacts(run.run_id):
                if one.path in wanted:
                    client.download_artifacts(run.run_id, one.path, str(folder))
            return {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file() and path.stat().st_size <= MOST_BYTES
            }
    except Exception as error:  # a server may have numbers, and no files
        client.get_run(run.run_id)  # which raises where it is away
        logger.warning("files of run %s cannot be read: %s", run.run_id, reason(error))
        return None


def keeps_trained(client: "MlflowClient", run_id: str) -> bool:
    """Whether a run has kept what it trained, as far as its store can say.

    Raises:
        Exception: whatever the client raises where the store is away.
    """
    try:
        return any(one.path == TRAINED for one in client.list_artifacts(run_id))
    except Exception:  # a server may have numbers, and no files
        client.get_run(run_id)
        return False
