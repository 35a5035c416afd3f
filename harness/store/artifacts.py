"""Read the artifact files of runs, including trained models.

Files are in a local folder, on the tracking server, or in cloud storage. They are untrusted input.
"""

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
from harness.store.errors import StoreError, describe_cause, is_transient, wrap_errors
from harness.store.run_update import MAX_BYTES
from harness.store.schema import CORRECT_FILE, SEEDS_CSV, TRAINED, name_trained_file

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from mlflow.tracking import MlflowClient

    from harness.store.runs import Run

logger = logging.getLogger(__name__)

RUNS_SCHEME = "runs:/"
PROXY_SCHEME = "mlflow-artifacts"  # scheme of files that are downloaded from the tracking server
MAX_REPORT_FILE_BYTES = 64 * 2**20  # reports ignore larger files
# RunFiles makes no further requests after this many failed ones, each of which may take seconds.
MAX_FAILED_REQUESTS = 3
MAX_CONCURRENT_REQUESTS = 8
MODEL_SUFFIX = ".safetensors"  # of the file with a seed's trained model
TRAINED_MANIFEST = "trained.json"  # file in the same folder that describes all of its models
QUIET_ENVIRONMENT = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@contextmanager
def fetch_artifacts(uri: str, seed: int | None, store: str) -> Iterator[Path]:
    """Provide the local path of an artifact folder, or of one file with a seed's trained model.

    Remote files are downloaded to a temporary folder, which is removed at the end of the context.
    Whether local files exist is not checked.

    Args:
        uri: One of: a local path (used in place), an artifact URI, or runs:/RUN_ID[/PATH]. PATH
            defaults to the run's trained models.
        seed: Seed whose trained model to download if the address is a remote folder. None downloads
            the whole folder.
        store: Address of the MLflow store, which has the run or serves the artifacts.

    Yields:
        Path of the folder. If a single model was requested or downloaded, path of its file, with
        TRAINED_MANIFEST in the same folder.

    Raises:
        StoreError: The run or the remote files do not exist or cannot be read, or the scheme of
            their address is not trusted.
    """
    if not urlparse(uri).scheme:
        yield Path(uri)
        return
    source_folder, _, file_name = uri.rstrip("/").rpartition("/")
    if not file_name.endswith(MODEL_SUFFIX):  # the address is a folder
        source_folder, file_name = uri.rstrip("/"), ""
    with wrap_errors(uri), set_environment(QUIET_ENVIRONMENT):
        source_folder = _resolve_address(source_folder, store)
    _require_trusted(source_folder)
    location = urlparse(source_folder)
    if location.scheme in ("", "file"):
        yield Path(unquote(location.path)) / file_name
        return
    if seed is not None and not file_name:
        file_name = name_trained_file(seed)
    with scratch_folder() as folder:
        with wrap_errors(uri), set_environment(QUIET_ENVIRONMENT):
            from mlflow import artifacts

            # "" is the whole folder; the path of the last download is yielded
            for name in (TRAINED_MANIFEST, file_name) if file_name else ("",):
                path = artifacts.download_artifacts(
                    artifact_uri=f"{source_folder}/{name}".rstrip("/"),
                    dst_path=str(folder),
                    tracking_uri=store,
                )
        yield Path(path)


def _resolve_address(address: str, store: str) -> str:
    """Return the artifact URI of a folder runs:/RUN_ID[/PATH], and other addresses unchanged.

    Raises:
        StoreError: The store's sqlite file does not exist.
        Exception: Any error of MLflow's client, e.g. for an unknown run.
    """
    if not address.startswith(RUNS_SCHEME):
        return address
    from mlflow.tracking import MlflowClient

    if store.startswith(SQLITE) and not Path(store.removeprefix(SQLITE)).exists():
        raise StoreError(f"{store}: no MLflow store found")  # MLflow would create one
    run_id, _, path = address.removeprefix(RUNS_SCHEME).strip("/").partition("/")
    run = MlflowClient(tracking_uri=store).get_run(run_id)
    return f"{run.info.artifact_uri.rstrip('/')}/{path or TRAINED}"


def _require_trusted(address: str) -> None:
    """Refuse an address with a scheme that is not trusted, such as http.

    MLflow would send the tracking server's token to any http or https address in the store.

    Raises:
        StoreError: The address is neither a path nor has a scheme of ARTIFACT_SCHEMES.
    """
    if urlparse(address).scheme not in ("", "file", *ARTIFACT_SCHEMES):
        raise StoreError(
            f"{address}: must be a path, or begin with one of {', '.join(ARTIFACT_SCHEMES)}"
        )


def read_run_files(client: "MlflowClient", run: "Run", *, trained: bool) -> dict[str, bytes] | None:
    """Read the files CORRECT_FILE and SEEDS_CSV of a run, and optionally its trained models.

    Files larger than MAX_BYTES are left out. The folder of trained models is downloaded whole,
    before the sizes of its files are checked.

    Args:
        client: Client of the store.
        run: The run.
        trained: Whether to include the files of the folder TRAINED.

    Returns:
        Content of each file that the run has, by path among the run's artifacts. None if the run's
        artifacts cannot be listed or downloaded; the reason is logged.

    Raises:
        Exception: The run cannot be read from the store either. Any error of MLflow's client.
    """
    names = {CORRECT_FILE, SEEDS_CSV, TRAINED} if trained else {CORRECT_FILE, SEEDS_CSV}
    try:
        _require_trusted(run.artifacts)
        with scratch_folder() as folder, set_environment(QUIET_ENVIRONMENT):
            for entry in client.list_artifacts(run.run_id):
                # folders have no size, and some servers omit the size of files
                if entry.path in names and (entry.file_size or 0) <= MAX_BYTES:
                    client.download_artifacts(run.run_id, entry.path, str(folder))
            return {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file() and path.stat().st_size <= MAX_BYTES
            }
    except Exception as error:  # the store may have the run without access to its files
        client.get_run(run.run_id)  # raises if the store does not answer
        logger.warning("cannot read the files of run %s: %s", run.run_id, describe_cause(error))
        return None


def has_trained_models(client: "MlflowClient", run_id: str) -> bool:
    """Return True if a run has the folder TRAINED, and False if its files cannot be listed.

    Raises:
        Exception: The run cannot be read from the store either. Any error of MLflow's client.
    """
    try:
        return any(entry.path == TRAINED for entry in client.list_artifacts(run_id))
    except Exception:  # the store may have the run without access to its files
        client.get_run(run_id)  # raises if the store does not answer
        return False


@dataclass(frozen=True)
class RunFiles:
    """Reader of the artifact files of a study's runs.

    The addresses in a store are untrusted input, so only two kinds are read: local folders and,
    unless the store is an sqlite file, addresses with a scheme of ARTIFACT_SCHEMES. Files larger
    than MAX_REPORT_FILE_BYTES are treated as missing.

    Attributes:
        uri: Address of the store. "" if there is none.
        folders: Run ID -> address of the folder of its artifacts.
    """

    uri: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    _failed: list[str] = field(default_factory=list)  # run ID of each failed request

    def read(self, run_id: str, name: str) -> bytes | None:
        """Return the content of a run's file, or None if it is missing or cannot be read.

        Errors are not raised, because tables can be built without the file. After
        MAX_FAILED_REQUESTS requests have failed, no remote file is read. The answer that a file
        does not exist is not a failure.

        Args:
            run_id: ID of the run.
            name: Path of the file among the run's artifacts.
        """
        folder = self.folders.get(run_id, "")
        location = urlparse(folder)
        if folder and location.scheme in ("", "file"):
            return _read_file(Path(unquote(location.path)) / name)
        may_request = not self.uri.startswith(SQLITE) and len(self._failed) < MAX_FAILED_REQUESTS
        if location.scheme not in ARTIFACT_SCHEMES or not may_request:
            return None
        try:
            return _download_file(folder.rstrip("/"), name, self.uri)
        except Exception:
            self._failed.append(run_id)
            return None

    def read_all(self, run_ids: Sequence[str], name: str) -> dict[str, bytes]:
        """Read the file of this name from each run, concurrently.

        Args:
            run_ids: IDs of the runs.
            name: Path of the file among a run's artifacts.

        Returns:
            Content by run ID, without the runs for which `read` returns None.
        """
        with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
            contents = pool.map(lambda run_id: self.read(run_id, name), run_ids)
            pairs = zip(run_ids, contents, strict=True)
            return {run_id: content for run_id, content in pairs if content is not None}


def _read_file(path: Path) -> bytes | None:
    """Return a file's content. None if it is unreadable or larger than MAX_REPORT_FILE_BYTES."""
    with suppress(OSError):
        if path.is_file() and path.stat().st_size <= MAX_REPORT_FILE_BYTES:
            return path.read_bytes()
    return None


def _download_file(folder_uri: str, name: str, store: str) -> bytes | None:
    """Download a file and return its content.

    The whole file is downloaded before its size is checked.

    Args:
        folder_uri: Artifact URI of the folder of a run's artifacts.
        name: Path of the file in the folder.
        store: Address of the MLflow store.

    Returns:
        Content of the file. None if it does not exist, is refused by the tracking server, or is
        larger than MAX_REPORT_FILE_BYTES.

    Raises:
        Exception: The server or the cloud storage cannot be reached, or fails. Any error of MLflow.
    """
    from mlflow import artifacts, environment_variables

    # not restored afterwards, because several threads download at once
    environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # type: ignore[no-untyped-call]
    with TemporaryDirectory() as target:
        if urlparse(folder_uri).scheme == PROXY_SCHEME:
            # the folder's address is that of the experiment's artifacts, then RUN_ID/artifacts
            experiment_uri, *names = f"{folder_uri}/{name}".rsplit("/", 3)
            server_files = _make_server_reader(experiment_uri, store)
            path = server_files.download_artifacts("/".join(names), target)  # type: ignore[no-untyped-call]
            return _read_file(Path(path))
        try:
            path = artifacts.download_artifacts(
                artifact_uri=f"{folder_uri}/{name}", dst_path=target, tracking_uri=store
            )
        except Exception:
            # MLflow reports a missing file and unreachable storage by the same type of error. If
            # the storage answers this request, only the file is missing.
            entries = artifacts.list_artifacts(artifact_uri=folder_uri, tracking_uri=store)
            if any(entry.path.rpartition("/")[2] == name for entry in entries):
                raise
            return None
        return _read_file(Path(path))


@cache
def _make_server_reader(experiment_uri: str, server: str) -> "ArtifactRepository":
    """Return a reader of an experiment's files on a tracking server. It cannot read folders.

    It makes one request per file. MLflow's own reader lists each path before the download, in case
    it is a folder, and has to be created for each run.

    If the server answers that a file does not exist, or refuses it, nothing is downloaded and no
    error is raised. A 5xx answer is an error, although servers with cloud storage give it for
    missing files, too: MLflow repeats such a request for seconds.

    Args:
        experiment_uri: Artifact URI of the experiment.
        server: Address of the server.
    """
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
    from requests import HTTPError

    class ServerFiles(MlflowArtifactsRepository):
        def list_artifacts(self, path: str | None = None) -> list[Any]:
            return []  # every path is a file

        def _download_file(self, remote_file_path: str, local_path: str) -> None:
            download: Any = super()._download_file
            try:
                download(remote_file_path, local_path)
            except HTTPError as error:
                if is_transient(error, server):
                    raise

    return ServerFiles(experiment_uri, server)
