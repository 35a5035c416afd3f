"""Files of a run, those of trained models among them, fetched from where MLflow keeps them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from harness.machine import environment, scratch
from harness.store.address import SERVED, SQLITE
from harness.store.changes import MOST_BYTES
from harness.store.errors import StoreError, reason, store_errors
from harness.store.schema import HITS, SEED_TABLE, TRAINED, trained_file

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from harness.store.runs import Run

logger = logging.getLogger(__name__)

RUNS = "runs:/"
LARGEST_FILE = 64 * 2**20  # bytes of a file of a run that reports read
MOST_FAILED = 3  # requests of a study's runs; each may take seconds
AT_ONCE = 8  # requests to a server
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
        trained: whether what was trained is wanted, too.

    Raises:
        Exception: whatever the client raises where the store is away.
    """
    wanted = {HITS, SEED_TABLE, TRAINED} if trained else {HITS, SEED_TABLE}
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


@dataclass(frozen=True)
class RunFiles:
    """Files of a study's runs, wherever the store keeps them.

    A store is somebody else's: what it names is read only where a store of its kind keeps files,
    and only if it is of bounded size.

    Attributes:
        uri: Address of the store; "" has no files.
        folders: Run id -> address of the folder of its artifacts.
    """

    uri: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    _failed: list[str] = field(default_factory=list)

    def read(self, run_id: str, name: str) -> bytes | None:
        """Return the content of a file of a run; None if there is none, or it cannot be read."""
        folder = self.folders.get(run_id, "")
        place = urlparse(folder)
        if folder and place.scheme in ("", "file"):
            return _from_disk(Path(unquote(place.path)) / name)
        # a server is asked unless it has failed to give several
        is_asked = not self.uri.startswith(SQLITE) and len(self._failed) < MOST_FAILED
        if place.scheme not in SERVED or not is_asked:
            return None
        content = _downloaded(f"{folder.rstrip('/')}/{name}", self.uri)
        if content is None:
            self._failed.append(run_id)
        return content

    def read_all(self, run_ids: Sequence[str], name: str) -> dict[str, bytes]:
        """Return a file of each run that has it, by run id; a server is asked for several at once.

        Args:
            run_ids: The runs.
            name: Path of the file among a run's artifacts.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            contents = pool.map(lambda run_id: self.read(run_id, name), run_ids)
            found = zip(run_ids, contents, strict=True)
            return {run_id: content for run_id, content in found if content is not None}


def _from_disk(path: Path) -> bytes | None:
    """A file's content; None of what is none, or is too large to be one of ours."""
    with suppress(OSError):
        if path.is_file() and path.stat().st_size <= LARGEST_FILE:
            return path.read_bytes()
    return None


def _downloaded(address: str, uri: str) -> bytes | None:
    """A file by MLflow's client, quietly; None where the store does not give it."""
    from mlflow import artifacts, environment_variables

    environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # type: ignore[no-untyped-call]
    # a store may throw anything; the tables do without
    with TemporaryDirectory() as folder, suppress(Exception):
        path = artifacts.download_artifacts(artifact_uri=address, dst_path=folder, tracking_uri=uri)
        return _from_disk(Path(path))
    return None
