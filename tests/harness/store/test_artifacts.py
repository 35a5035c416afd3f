"""Files of runs are read from a tracking server or from cloud storage."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from unittest import mock

import pytest
from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException

from harness.store import MAX_FAILED_REQUESTS, RunFiles

FILES = "/api/2.0/mlflow-artifacts/artifacts"


class Server(ThreadingHTTPServer):
    """A server with the file seeds.csv of the run `a`. It records the requested paths.

    Attributes:
        missing_status: Status of the answer to requests for other files.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []
        self.missing_status = 404

    @property
    def uri(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers with the file, or with the status of a missing one."""

    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        has_file = self.path == f"{FILES}/7/a/artifacts/seeds.csv"
        self.send_response(200 if has_file else self.server.missing_status)
        self.end_headers()
        self.wfile.write(b"content" if has_file else b"")

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """Start the server until the test ends."""
    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_each_file_is_read_with_one_request(server: Server) -> None:
    """MLflow's own function would need a second request per file, which lists the path."""
    folders = {run_id: f"mlflow-artifacts:/7/{run_id}/artifacts" for run_id in ("a", "b")}
    files = RunFiles(server.uri, folders)
    assert files.read_all(["a", "b"], "seeds.csv") == {"a": b"content"}
    requested = [path for path in server.paths if path.startswith(FILES)]
    assert sorted(requested) == [f"{FILES}/7/{run_id}/artifacts/seeds.csv" for run_id in ("a", "b")]


MANY = [str(number) for number in range(3 * MAX_FAILED_REQUESTS)]
"""IDs of runs without the file."""


@pytest.mark.parametrize("status", [404, 403, 503])
def test_only_failures_of_the_server_end_the_requests(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """After missing files the files of other runs are still read."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server.missing_status = status
    folders = {run_id: f"mlflow-artifacts:/7/{run_id}/artifacts" for run_id in (*MANY, "a")}
    files = RunFiles(server.uri, folders)
    assert [files.read(run_id, "seeds.csv") for run_id in MANY] == [None] * len(MANY)
    is_failure = status == 503
    assert files.read("a", "seeds.csv") == (None if is_failure else b"content")
    requested = [path for path in server.paths if path.startswith(FILES)]
    assert len(requested) == (MAX_FAILED_REQUESTS if is_failure else len(folders))


def test_large_files_of_a_server_do_not_end_the_requests(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is too large is treated like a missing file."""
    files = RunFiles(server.uri, {"a": "mlflow-artifacts:/7/a/artifacts"})
    with monkeypatch.context() as patch:
        patch.setattr("harness.store.artifacts.MAX_REPORT_FILE_BYTES", 2)
        assert [files.read("a", "seeds.csv") for _ in MANY] == [None] * len(MANY)
    assert files.read("a", "seeds.csv") == b"content"


@pytest.mark.parametrize(
    ("listing", "n_requests"),
    [
        ([], len(MANY)),
        (["correct.parquet"], len(MANY)),
        (["seeds.csv"], MAX_FAILED_REQUESTS),
        (None, MAX_FAILED_REQUESTS),
    ],
)
def test_only_failures_of_cloud_storage_end_the_requests(
    monkeypatch: pytest.MonkeyPatch, listing: list[str] | None, n_requests: int
) -> None:
    """If a download fails but the storage lists other files, the file is only missing."""
    entries = [FileInfo(name, False, 1) for name in listing or ()]
    download = mock.Mock(side_effect=MlflowException("error"))
    failure = None if listing is not None else MlflowException("error")
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", download)
    monkeypatch.setattr(
        "mlflow.artifacts.list_artifacts", mock.Mock(return_value=entries, side_effect=failure)
    )
    files = RunFiles("http://server", {run_id: f"s3://bucket/7/{run_id}" for run_id in MANY})
    assert [files.read(run_id, "seeds.csv") for run_id in MANY] == [None] * len(MANY)
    assert download.call_count == n_requests
