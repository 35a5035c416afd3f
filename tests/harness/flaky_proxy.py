"""A proxy in front of a tracking server that damages some of its requests."""

import http.client
import random
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Faults of a request. "before": the request does not reach the server; "after": it does, but its
# answer does not reach the client.
FAULTS = ("500 before", "500 after", "cut", "delayed", "dropped before", "dropped after")
DELAY_SECONDS = (0.5, 2.0)
# Headers that apply to a single connection, and are not forwarded.
CONNECTION_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class FlakyProxy:
    """Context manager of a proxy on 127.0.0.1 that forwards requests to a port of this machine.

    Attributes:
        outcomes: Number of requests per fault; "forwarded" counts those without a fault.
    """

    def __init__(self, upstream: int, share: float = 0.1, seed: int = 0) -> None:
        """Create the proxy.

        Args:
            upstream: Port of the server.
            share: Share of the requests that have a fault.
            seed: Seed with which faults are drawn, in the order of arrival.
        """
        self.upstream = upstream
        self.outcomes: Counter[str] = Counter()
        self._share = share
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> "FlakyProxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def uri(self) -> str:
        """Address of the server through the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def draw_outcome(self) -> tuple[str, float]:
        """Draw the outcome of the next request, and its delay in seconds."""
        with self._lock:
            has_fault = self._random.random() < self._share
            outcome = self._random.choice(FAULTS) if has_fault else "forwarded"
            self.outcomes[outcome] += 1
            is_delayed = outcome == "delayed"
            return outcome, self._random.uniform(*DELAY_SECONDS) if is_delayed else 0.0


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    owner: FlakyProxy

    def handle_one_request(self) -> None:
        """Handle a request like the base class, but close the connection of a killed client."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _handle(self) -> None:
        """Forward the request, or do what its fault requires."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        outcome, delay = self.owner.draw_outcome()
        time.sleep(delay)
        if outcome == "dropped before":
            return self._drop()
        if outcome == "500 before":
            return self._answer(500, {}, b"fault", 5)
        status, headers, answer = self._forward(body)
        if outcome == "dropped after":
            return self._drop()
        if outcome == "500 after":
            return self._answer(500, {}, b"fault", 5)
        sent_body = answer[: len(answer) // 2] if outcome == "cut" else answer
        self._answer(status, headers, sent_body, len(answer))
        return self._drop() if outcome == "cut" else None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Forward the request, and return the answer's status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.owner.upstream, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in CONNECTION_HEADERS}
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            answered = {k: v for k, v in answer.getheaders() if k.lower() not in CONNECTION_HEADERS}
            return answer.status, answered, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, length: int) -> None:
        """Send an answer, whose content length may be larger than that of its body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def _drop(self) -> None:
        """Close the connection before the end of the answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
