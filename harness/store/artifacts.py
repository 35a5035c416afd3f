"""Read the artifact files of runs, including trained models."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from harness.machine import scratch_folder, set_environment
from harness.store.address import ARTIFACT_SCHEMES, SQLITE
from harness.store.errors import StoreError, describe_cause, wrap_errors
from harness.store.run_update import MAX_BYTES
from harness.store.schema import CORRECT_FILE, SEEDS_CSV, TRAINED, trained_file

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from mlflow.tracking import MlflowClient

    from harness.store.runs import Run

logger = logging.getLogger(__name__)

RUNS_SCHEME = "runs:/"
PROXY_SCHEME = "mlflow-artifacts"  # scheme of files that the tracking server itself provides
MAX_FILE = 64 * 2**20  # maximum size in bytes of a file that reports read
MAX_FAILED = 3  # failed requests per study before RunFiles gives up; each may take seconds
MAX_CONCURRENT_REQUESTS = 8
SUFFIX, MANIFEST = ".safetensors", "trained.json"
QUIET_ENVIRONMENT = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@contextmanager
def fetch_artifacts(uri: str, seed: int | None, store: str) -> Iterator[Path]:
    """Provide the local path of an artifact folder or file. A download is removed afterwards.

    Args:
        uri: A path, which is not copied, an artifact URI, or runs:/RUN_ID with an optional path.
        seed: Seed whose trained model to download from a folder. Defaults to the whole folder.
        store: Address of the MLflow store.

    Yields:
        Path of the folder or the file.

    Raises:
        StoreError: The files do not exist, or the kind of their address is not trusted.
    """
    if not urlparse(uri).scheme:
        yield Path(uri)
        return
    base, _, name = uri.rstrip("/").rpartition("/")
    if not name.endswith(SUFFIX):  # the address is a folder
        base, name = uri.rstrip("/"), ""
    with wrap_errors(uri), set_environment(QUIET_ENVIRONMENT):
        base = _resolve_address(base, store)
    _require_trusted(base)
    location = urlparse(base)
    if location.scheme in ("", "file"):
        yield Path(unquote(location.path)) / name
        return
    if seed is not None and not name:
        name = trained_file(seed)
    with scratch_folder() as folder:
        with wrap_errors(uri), set_environment(QUIET_ENVIRONMENT):
            from mlflow import artifacts

            for file in (MANIFEST, name) if name else ("",):
                source = f"{base}/{file}".rstrip("/")
                path = artifacts.download_artifacts(
                    artifact_uri=source, dst_path=str(folder), tracking_uri=store
                )
        yield Path(path)


def _resolve_address(base: str, store: str) -> str:
    """Return the artifact URI of a runs:/ address. Its path defaults to the trained models."""
    if not base.startswith(RUNS_SCHEME):
        return base
    from mlflow.tracking import MlflowClient

    if store.startswith(SQLITE) and not Path(store.removeprefix(SQLITE)).exists():
        raise StoreError(f"{store}: no MLflow store found")  # MLflow would create one
    run_id, _, path = base.removeprefix(RUNS_SCHEME).strip("/").partition("/")
    run = MlflowClient(tracking_uri=store).get_run(run_id)
    return f"{run.info.artifact_uri.rstrip('/')}/{path or TRAINED}"


def _require_trusted(address: str) -> None:
    """Refuse an address to which MLflow would send the token of the tracking server.

    Raises:
        StoreError: The address is not of a trusted kind.
    """
    if urlparse(address).scheme not in ("", "file", *ARTIFACT_SCHEMES):
        raise StoreError(
            f"{address}: must be a path, or begin with one of {', '.join(ARTIFACT_SCHEMES)}"
        )


def read_run_files(client: "MlflowClient", run: "Run", *, trained: bool) -> dict[str, bytes] | None:
    """Return the correct predictions and the seed table of a run, and possibly its trained models.

    Args:
        client: Client of the store.
        run: The run.
        trained: Whether to include its trained models.

    Returns:
        Contents by path among the run's artifacts, without missing files and files that exceed
        MAX_BYTES. None if the files cannot be read.

    Raises:
        Exception: Any error of the client, if the store does not answer.
    """
    names = {CORRECT_FILE, SEEDS_CSV, TRAINED} if trained else {CORRECT_FILE, SEEDS_CSV}
    try:
        _require_trusted(run.artifacts)
        with scratch_folder() as folder, set_environment(QUIET_ENVIRONMENT):
            for entry in client.list_artifacts(run.run_id):
                if entry.path in names:
                    client.download_artifacts(run.run_id, entry.path, str(folder))
            return {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file() and path.stat().st_size <= MAX_BYTES
            }
    except Exception as error:  # a server may have a run but not provide its files
        client.get_run(run.run_id)  # raises if the store does not answer
        logger.warning("cannot read the files of run %s: %s", run.run_id, describe_cause(error))
        return None


def has_trained_models(client: "MlflowClient", run_id: str) -> bool:
    """Return True if a run has saved its trained models, False also if its files cannot be listed.

    Raises:
        Exception: Any error of the client, if the store does not answer.
    """
    try:
        return any(entry.path == TRAINED for entry in client.list_artifacts(run_id))
    except Exception:  # a server may have a run but not provide its files
        client.get_run(run_id)  # raises if the store does not answer
        return False


@dataclass(frozen=True)
class RunFiles:
    """Reader of the artifact files of a study's runs.

    A store's content is untrusted input. Files are read only from the kinds of addresses at which
    such a store saves them, and only up to a maximum size.

    Attributes:
        uri: Address of the store. "" if there is none.
        folders: Run ID -> address of the folder of its artifacts.
    """

    uri: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    _failed: list[str] = field(default_factory=list)

    def read(self, run_id: str, name: str) -> bytes | None:
        """Return the content of a run's file, or None if it is missing or cannot be read."""
        folder = self.folders.get(run_id, "")
        location = urlparse(folder)
        if folder and location.scheme in ("", "file"):
            return _read_file(Path(unquote(location.path)) / name)
        # after several failures, no further requests are made
        may_request = not self.uri.startswith(SQLITE) and len(self._failed) < MAX_FAILED
        if location.scheme not in ARTIFACT_SCHEMES or not may_request:
            return None
        content = _download_file(f"{folder.rstrip('/')}/{name}", self.uri)
        if content is None:
            self._failed.append(run_id)
        return content

    def read_all(self, run_ids: Sequence[str], name: str) -> dict[str, bytes]:
        """Return a file of each run that has it, by run ID. The files are read concurrently.

        Args:
            run_ids: IDs of the runs.
            name: Path of the file among a run's artifacts.
        """
        with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
            contents = pool.map(lambda run_id: self.read(run_id, name), run_ids)
            pairs = zip(run_ids, contents, strict=True)
            return {run_id: content for run_id, content in pairs if content is not None}


def _read_file(path: Path) -> bytes | None:
    """Return a file's content, or None if it does not exist or exceeds MAX_FILE."""
    with suppress(OSError):
        if path.is_file() and path.stat().st_size <= MAX_FILE:
            return path.read_bytes()
    return None


def _download_file(address: str, uri: str) -> bytes | None:
    """Return the content of a file, downloaded without MLflow's progress bar. None if that fails.

    Args:
        address: Artifact URI of the file.
        uri: Address of the store.
    """
    from mlflow import artifacts, environment_variables

    environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # type: ignore[no-untyped-call]
    # any error is ignored, because tables can be built without the file
    with TemporaryDirectory() as folder, suppress(Exception):
        if urlparse(address).scheme == PROXY_SCHEME:
            # address of the experiment's artifacts, then RUN_ID/artifacts/FILE
            root, *names = address.rsplit("/", 3)
            files = _make_file_reader(root, uri)
            path = files.download_artifacts("/".join(names), folder)  # type: ignore[no-untyped-call]
        else:
            path = artifacts.download_artifacts(
                artifact_uri=address, dst_path=folder, tracking_uri=uri
            )
        return _read_file(Path(path))
    return None


@cache
def _make_file_reader(root: str, uri: str) -> "ArtifactRepository":
    """Return a reader of an experiment's files on a tracking server. It cannot read folders.

    It makes one request per file. MLflow's own reader lists each path before the download, in case
    it is a folder, and is created again for each run.

    Args:
        root: Artifact URI of the experiment.
        uri: Address of the server.
    """
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    class Files(MlflowArtifactsRepository):
        def list_artifacts(self, path: str | None = None) -> list[Any]:
            return []  # every path is a file

    return Files(root, uri)
