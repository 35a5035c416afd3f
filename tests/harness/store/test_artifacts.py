"""Reading files of runs from a tracking server."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from harness.store import RunFiles

FILES = "/api/2.0/mlflow-artifacts/artifacts"


class Server(ThreadingHTTPServer):
    """A server with the file seeds.csv of the run `a`. It records the requested paths."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []

    @property
    def uri(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers with the file, or with 404."""

    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        has_file = self.path == f"{FILES}/7/a/artifacts/seeds.csv"
        self.send_response(200 if has_file else 404)
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
    """1,000 configurations cost 1,000 requests; MLflow by itself would also list each path."""
    folders = {run_id: f"mlflow-artifacts:/7/{run_id}/artifacts" for run_id in ("a", "b")}
    files = RunFiles(server.uri, folders)
    assert files.read_all(["a", "b"], "seeds.csv") == {"a": b"content"}
    requested = [path for path in server.paths if path.startswith(FILES)]
    assert sorted(requested) == [f"{FILES}/7/{run_id}/artifacts/seeds.csv" for run_id in ("a", "b")]
